//! What is received: the upgrade request, then messages.

use super::super::close::{Cause, Ending};
use super::super::codec::{Codec, DecodeError, Envelope, Fault};
use super::super::framing::Incomplete;
use super::super::http::{self, Answer, Asked, Request};
use super::super::limits::{Excess, Meter};
use super::super::violation::Violation;
use super::super::websocket::{self, Frame, Opcode, Role};
use super::super::wire::{Link, Wire};
use super::{Handshake, Input, Kind, PING, PONG, Phase, Session, Settings, Side, Traffic, plain};
use crate::clock::Timestamp;

/// What a session needs while it takes messages from its input.
struct Receiving<'a, C, S> {
    /// What the session has in common with others.
    settings: &'a Settings,
    /// How messages are read and answered.
    wire: Wire<C>,
    /// What waits to be written.
    outbox: &'a mut super::Outbox,
    /// The messages that were received.
    received: &'a mut u64,
    /// The counters of the owner.
    traffic: &'a mut Traffic,
    /// The rate of the messages.
    meter: &'a mut Meter,
    /// The time, ns.
    now: u64,
    /// What happens to the peer because too many messages came.
    excess: Option<Excess>,
    /// The payload of the last ping.
    nonce: [u8; 8],
    /// Whether a pong has come.
    has_pong: bool,
    /// Whether anything was complete.
    is_complete: bool,
    /// The close of the peer.
    close: Option<PeerClose>,
    /// What the server said last, if that was an error.
    farewell: &'a mut Option<Box<Fault>>,
    /// Takes the messages.
    sink: S,
}

/// The code and the reason of the peer's close frame, if it has them.
struct PeerClose(Option<(u16, String)>);

impl<C: Codec, S: FnMut(Envelope<'_>)> Receiving<'_, C, S> {
    /// Takes a message of bytes.
    fn message(&mut self, payload: &[u8]) -> Result<(), Violation> {
        self.envelope(self.wire.codec.split(payload))
    }

    /// Takes what a message was taken apart into.
    fn envelope(&mut self, split: Result<Envelope<'_>, DecodeError>) -> Result<(), Violation> {
        self.is_complete = true;
        if let Some(rate) = &self.settings.limits.rate
            && !self.meter.count(rate, self.now)
        {
            self.excess = Some(rate.on_excess());
        }
        let envelope = split.map_err(|error| Violation::BadMessage(error.to_string()))?;
        match &*envelope.name {
            PING => {
                let wire = self.wire;
                self.outbox.pong_message(|| plain(wire, PONG));
            }
            PONG => self.has_pong = true,
            name => {
                *self.received += 1;
                self.traffic.received += 1;
                if self.wire.role == Role::Client {
                    let is_fault = name == Fault::NAME && envelope.re.is_none();
                    let fault = is_fault.then(|| self.wire.codec.split_fault(envelope.body));
                    *self.farewell = fault.flatten().map(Box::new);
                }
                (self.sink)(envelope);
            }
        }
        Ok(())
    }

    /// Takes a frame of WebSocket.
    fn frame(&mut self, frame: Frame<'_>) -> Result<(), Violation> {
        self.is_complete = true;
        match frame {
            Frame::Text(_) if !self.wire.codec.is_text() => return Err(Violation::NotBinary),
            Frame::Text(text) => return self.envelope(self.wire.codec.split_text(text)),
            Frame::Binary(payload) => return self.message(payload),
            Frame::Ping(payload) => {
                let pong = websocket::control_frame(Opcode::Pong, payload, self.wire.role);
                self.outbox.pong(pong);
            }
            Frame::Pong(payload) => self.has_pong |= payload == self.nonce,
            Frame::Close(close) => {
                self.close = Some(PeerClose(
                    close.map(|(code, reason)| (code, reason.to_owned())),
                ));
            }
        }
        Ok(())
    }
}

impl<C: Codec> Session<C> {
    /// Takes `input` at `now`, counts it in `traffic`, and calls `sink` with each message. Frames of WebSocket are
    /// unmasked in place. After the session has opened, by [`accept`](Session::accept) or by the answer to a client,
    /// the owner calls this with what it has, which may be empty, because messages may have come with the request or
    /// the answer.
    pub(crate) fn receive(
        &mut self,
        input: &mut [u8],
        now: Timestamp,
        traffic: &mut Traffic,
        mut sink: impl FnMut(Envelope<'_>),
    ) {
        traffic.bytes_in += input.len() as u64;
        match self.phase {
            Phase::Requesting => self.read_request(input, now),
            Phase::Deciding => {
                if let Some(handshake) = &mut self.handshake {
                    handshake.buffer.extend_from_slice(input);
                }
            }
            Phase::Open | Phase::Closing => {
                if let Some(handshake) = self.handshake.take() {
                    let mut early = handshake.buffer;
                    self.read_messages(&mut early, now, traffic, &mut sink);
                }
                self.read_messages(input, now, traffic, &mut sink);
                self.update_hearing();
            }
            Phase::Flushing | Phase::Aborting | Phase::Lingering | Phase::Done => {}
        }
    }

    /// Sets whether the owner has a part of something that is for the session once it is complete, such as an encrypted
    /// record. Called before the [`receive`](Session::receive), or [`hear_part`](Session::hear_part), of what came with
    /// it.
    pub(crate) fn set_partial(&mut self, is_partial: bool) {
        self.is_partial = is_partial;
    }

    /// Records that bytes were received of which none are for the session yet.
    pub(crate) fn hear_part(&mut self, now: Timestamp) {
        if !self.settings.keepalive.needs_messages() {
            self.hear(now);
        }
        self.time_message(false);
    }

    /// Takes a part of the upgrade request.
    fn read_request(&mut self, input: &[u8], now: Timestamp) {
        self.heard = self.heard.max(now.as_nanos());
        let Some(handshake) = self.handshake.as_deref_mut() else {
            return;
        };
        let Handshake {
            buffer,
            side,
            is_head,
        } = handshake;
        buffer.extend_from_slice(input);
        *is_head = buffer.starts_with(b"HEAD ");
        let (max, policy) = (self.settings.limits.max_header, &self.settings.policy);
        match side {
            Side::Server(peer, wanted) => match http::parse(buffer, max, *peer, policy) {
                Ok(Some((asked, length))) => {
                    // Most clients wait for the answer, and nothing is left.
                    *buffer = buffer.split_off(length);
                    *wanted = Some(asked);
                    self.phase = Phase::Deciding;
                }
                Ok(None) => {}
                Err(status) => self.refuse(&Answer::new(status), now),
            },
            #[cfg(feature = "client")]
            Side::Client(upgrade) => match upgrade.check(buffer, max) {
                Ok(Some(length)) => {
                    *buffer = buffer.split_off(length);
                    self.handshake.take_if(|it| it.buffer.is_empty());
                    self.open(now);
                }
                Ok(None) => {}
                Err(rejected) => self.rejected(rejected, now),
            },
        }
    }

    /// Takes what the upgrade request asks for, once it is complete. The owner then calls [`accept`](Session::accept)
    /// or [`refuse`](Session::refuse), and reads nothing before.
    pub(crate) fn take_asked(&mut self) -> Option<Asked> {
        match &mut self.handshake.as_mut()?.side {
            Side::Server(_, asked) => asked.take(),
            #[cfg(feature = "client")]
            Side::Client(_) => None,
        }
    }

    /// Accepts `request`, which came from this session, with the codec that it asks for. Returns the subprotocol. The
    /// owner then calls [`receive`](Session::receive), because messages may have come already.
    pub(crate) fn accept(&mut self, request: &Request, now: Timestamp) -> Option<&'static str> {
        if self.phase != Phase::Deciding {
            return None;
        }
        let picked = request.pick::<C>();
        if let Some((codec, _)) = picked {
            self.wire.codec = codec;
        }
        let subprotocol = picked.map(|(_, subprotocol)| subprotocol);
        self.outbox.push_other(http::accepted(request, subprotocol));
        self.handshake.take_if(|it| it.buffer.is_empty());
        self.open(now);
        subprotocol
    }

    /// Takes messages from `input`.
    fn read_messages(
        &mut self,
        input: &mut [u8],
        now: Timestamp,
        traffic: &mut Traffic,
        sink: impl FnMut(Envelope<'_>),
    ) {
        // A violation in what came with the request ends the session before the rest.
        let is_over = self.is_concluding || !matches!(self.phase, Phase::Open | Phase::Closing);
        if input.is_empty() || is_over {
            return;
        }
        let nonce = self.nonce();
        let max = self.settings.limits.max_message;
        let mut receiving = Receiving {
            settings: &self.settings,
            wire: self.wire,
            outbox: &mut self.outbox,
            received: &mut self.received,
            traffic,
            meter: &mut self.meter,
            now: now.as_nanos(),
            excess: None,
            nonce,
            has_pong: false,
            is_complete: false,
            close: None,
            farewell: &mut self.farewell,
            sink,
        };
        let read = match (&mut self.input, self.wire.link) {
            (Input::Tcp(splitter), Link::Tcp(framing)) => {
                splitter.push(framing, max, input, |payload| receiving.message(payload))
            }
            (Input::WebSocket(reader), _) => {
                reader.push(self.wire.role, max, input, |frame| receiving.frame(frame))
            }
            (Input::Tcp(_), Link::WebSocket) => Ok(()),
        };
        let Receiving {
            has_pong,
            is_complete,
            close,
            excess,
            ..
        } = receiving;
        if has_pong {
            self.pong_was_read(now);
        }
        if is_complete || !self.settings.keepalive.needs_messages() {
            self.hear(now);
        }
        self.time_message(is_complete);
        if let Err(violation) = read {
            self.found(violation.into_ending());
        } else if let Some(PeerClose(close)) = close {
            let (code, reason) = close.unwrap_or((1005, String::new()));
            self.found(Ending::received(Cause::Peer, code, reason));
        } else if let Some(excess) = excess {
            self.exceeded_rate(excess, now);
        }
    }

    /// Begins or ends the deadline of a message that is incomplete. More of the same message does not begin it again.
    /// `is_complete` says that another one was complete before it.
    fn time_message(&mut self, is_complete: bool) {
        if !self.is_open() || self.is_deaf {
            return;
        }
        let incomplete = match &mut self.input {
            Input::Tcp(splitter) => splitter.incomplete(),
            Input::WebSocket(reader) => reader.incomplete(),
        };
        match incomplete {
            Incomplete::Nothing if !self.is_partial => self.deadlines.disarm(Kind::Message),
            Incomplete::Nothing if is_complete => self.deadlines.arm(Kind::Message),
            Incomplete::Nothing | Incomplete::Same if self.deadlines.is_armed(Kind::Message) => {}
            _ => self.deadlines.arm(Kind::Message),
        }
    }

    /// Stops or continues to judge the peer's silence and slowness: not while nothing is read.
    pub(super) fn update_hearing(&mut self) {
        let is_deaf = self.is_open() && !self.wants_read();
        if is_deaf == self.is_deaf {
            return;
        }
        self.is_deaf = is_deaf;
        if is_deaf {
            self.deadlines.disarm(Kind::Silence);
            self.deadlines.disarm(Kind::Message);
        } else if self.is_open() {
            self.begin_silence();
            self.time_message(false);
        }
    }

    /// Stops reading because messages wait to be handled. The peer's silence is not judged meanwhile.
    pub(crate) fn pause(&mut self) {
        self.is_paused = true;
        self.update_hearing();
    }

    /// Continues to read. The peer gets the whole time of the keepalive from now on.
    pub(crate) fn resume(&mut self) {
        self.is_paused = false;
        self.update_hearing();
    }
}
