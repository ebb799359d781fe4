//! The check of the options, and the start.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use super::super::codec::Codec;
use super::super::core::{Core, OnStall};
use super::super::desk::{Blocked, Supervisor};
use super::super::error::StartError;
use super::super::face::{Running, Server};
use super::super::framing::Framing;
use super::super::hub::{Hub, HubOptions, Port};
use super::super::inbox::Wake;
use super::super::net::{Poll, Waker};
use super::super::pool::Pool;
use super::super::reactor::{Listener, Reactor, Start, WAKER};
use super::super::session::Settings;
use super::super::strand::Room;
use super::ServerBuilder;
use crate::clock::Clock;
use crate::error::OptionError;
use crate::panic::catch_panic;

impl<C: Codec, T: Send + Sync + 'static> ServerBuilder<C, T> {
    /// Checks the options.
    fn validate(&mut self) -> Result<(), OptionError> {
        if let Some(error) = self.bad_route.take() {
            return Err(error);
        }
        let from_1 = |option, given: usize, most: usize| {
            if (1..=most).contains(&given) {
                return Ok(());
            }
            let must = if most == usize::MAX {
                "be at least 1".to_owned()
            } else {
                format!("be from 1 to {most}, not {given}")
            };
            Err(OptionError::new(option, must))
        };
        from_1("reactors", self.reactors, 64)?;
        from_1("handlers", self.handlers, 512)?;
        from_1("max_connections", self.connections.max_connections, 1 << 20)?;
        from_1("max_handshaking", self.connections.max_handshaking, 1 << 20)?;
        from_1("max_per_ip", self.connections.per_ip.unwrap_or(1), 1 << 20)?;
        from_1("max_message", self.limits.max_message, 16 << 20)?;
        if !(1 << 10..=64 << 10).contains(&self.limits.max_header) {
            return Err(OptionError::new(
                "max_header",
                "be from 1024 to 65536 bytes",
            ));
        }
        from_1("inbound", self.room.jobs.min(self.room.bytes), usize::MAX)?;
        if self.limits.outbound < self.limits.max_message {
            let must = format!(
                "be at least `max_message`, which is {}",
                self.limits.max_message
            );
            return Err(OptionError::new("outbound", must));
        }
        if self.max_buffered < self.limits.outbound {
            let must = format!("be at least `outbound`, which is {}", self.limits.outbound);
            return Err(OptionError::new("max_buffered", must));
        }
        for (option, duration) in [
            ("handshake_within", self.limits.handshake_within),
            ("message_within", self.limits.message_within),
            ("write_within", self.limits.write_within),
            ("close_within", self.limits.close_within),
            ("stall_after", self.stall_after),
        ] {
            OptionError::positive(option, !duration.is_zero())?;
        }
        if self.thread_name.contains('\0') {
            return Err(OptionError::new(
                "thread_name",
                "contain no zero byte".to_owned(),
            ));
        }
        if self.framing == Framing::Lines && !C::default().is_text() {
            let must =
                "have a length for a codec that is not text: `Framing::U16` or `Framing::U32`";
            return Err(OptionError::new("framing", must));
        }
        if let Some(path) = self.policy.paths.iter().find(|path| !path.starts_with('/')) {
            let must = format!("begin with a slash, unlike `{path}`");
            return Err(OptionError::new("path", must));
        }
        if let Some(rate) = &self.limits.rate {
            rate.validate()?;
        }
        self.keepalive.validate()
    }

    /// Binds the addresses.
    fn listen(&self) -> Result<Vec<Listener>, StartError> {
        let mut listeners = Vec::new();
        for (address, port, layer) in &self.ports {
            let failed = |error| StartError::Listen {
                address: address.clone(),
                error,
            };
            let port = match port {
                Port::Tcp(_) => Port::Tcp(self.framing),
                Port::WebSocket => Port::WebSocket,
            };
            for resolved in address.to_socket_addrs().map_err(failed)? {
                listeners.push(Listener::bind(resolved, port, layer.clone()).map_err(failed)?);
            }
        }
        Ok(listeners)
    }

    /// Starts the server.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] if an option is out of range, an address cannot be listened on, or a thread cannot be
    /// created. Nothing runs then.
    pub fn start(mut self) -> Result<Server<C, T>, StartError> {
        self.validate()?;
        let mut listeners = self.listen()?;
        let addresses: Vec<_> = listeners
            .iter()
            .filter_map(|it| it.local_addr().ok())
            .collect();
        let clock = Clock::monotonic();
        let mut polls = Vec::new();
        let mut wakers: Vec<Box<dyn Wake>> = Vec::new();
        for _ in 0..self.reactors {
            let poll = Poll::new()?;
            wakers.push(Box::new(Waker::new(poll.registry(), WAKER)?));
            polls.push(poll);
        }
        let hub = Arc::new(Hub::new(
            wakers,
            HubOptions {
                clock: clock.clone(),
                max_buffered: self.max_buffered,
                outbound: self.limits.outbound,
                overflow: self.limits.overflow,
            },
        ));
        let bytes = self.room.bytes.min(self.limits.outbound / 8).max(1);
        let room = Room { bytes, ..self.room };
        let on_stall = self.on_stall;
        let supervisor = Supervisor::start(&clock, self.stall_after, {
            let hub = hub.clone();
            move |blocked| report(&hub, blocked, on_stall.as_ref())
        })
        .map_err(|error| StartError::System(std::io::Error::other(error)))?;
        let core = Arc::new(Core {
            hub,
            program: self.program,
            agents: Mutex::default(),
            pool: Arc::new(Pool::new(self.handlers, room, self.max_buffered)),
            supervisor: supervisor.clone(),
        });
        let names = (0..self.reactors).map(|index| format!("{}-r{index}", self.thread_name));
        let reactor_desks: Vec<_> = names.map(|name| supervisor.seat(name)).collect();
        let names = (0..self.handlers).map(|index| format!("{}-h{index}", self.thread_name));
        let handler_desks: Vec<_> = names.map(|name| supervisor.seat(name)).collect();
        let salt = ahash::RandomState::new().hash_one(0_u64);
        let settings = Arc::new(Settings {
            keepalive: self.keepalive,
            limits: self.limits,
            policy: self.policy,
            salt,
        });
        // From here on a failure shuts down what was started.
        let mut running = Running::default();
        let started = (|| {
            for desk in handler_desks {
                let core = core.clone();
                let name = desk.name().to_owned();
                running
                    .handlers
                    .push(thread::Builder::new().name(name).spawn(move || {
                        core.hub.mark_thread(false);
                        core.supervisor.sit_at(desk);
                        core.pool.work();
                    })?);
            }
            for (index, (poll, desk)) in polls.into_iter().zip(reactor_desks).enumerate() {
                let reactor = Reactor::new(Start {
                    index,
                    poll,
                    core: core.clone(),
                    settings: settings.clone(),
                    listeners: std::mem::take(&mut listeners),
                    limits: self.connections,
                    desk: desk.clone(),
                })?;
                let name = desk.name().to_owned();
                running
                    .reactors
                    .push(thread::Builder::new().name(name).spawn(|| reactor.run())?);
            }
            Ok(())
        })();
        let server = Server::new(core, addresses, running);
        match started {
            Ok(()) => Ok(server),
            // Dropping the server ends what was started.
            Err(error) => Err(StartError::System(error)),
        }
    }
}

/// Reports a thread that is blocked.
fn report<C: Codec>(hub: &Hub<C>, blocked: &Blocked, on_stall: Option<&OnStall>) {
    hub.stats.lock().stalls += 1;
    crate::log::warn!("{blocked}");
    if let Some(code) = on_stall
        && catch_panic(|| code(blocked)).is_none()
    {
        hub.stats.lock().panics += 1;
    }
}
