//! Keepalive and the other deadlines.

use std::num::NonZeroU64;
use std::time::Duration;

use super::super::close::{Cause, Ending};
use super::super::codec::Codec;
use super::super::deadlines::Change;
use super::super::http::Answer;
use super::super::keepalive::{Next, Ping};
use super::super::limits::Excess;
use super::super::websocket::{self, Opcode};
use super::super::wire::Link;
use super::ending::How;
use super::{Kind, LINGER, Moment, PING, Phase, Session, THROTTLE, plain};
use crate::clock::{self, Timestamp};

impl<C: Codec> Session<C> {
    /// Takes the changes of deadlines since the last call, which apply to the keys of the owner's watcher at the time
    /// of this round.
    pub(crate) fn take_changes(&mut self, apply: impl FnMut(Kind, Change)) {
        let (settings, phase, pings) = (&self.settings, self.phase, self.pings);
        let timeout = |kind| match kind {
            Kind::Handshake => settings.limits.handshake_within,
            Kind::Silence => settings.keepalive.after(pings).0,
            Kind::Message => settings.limits.message_within,
            Kind::Drain => settings.limits.write_within,
            Kind::Closing if phase == Phase::Lingering => LINGER,
            Kind::Closing => settings.limits.close_within,
            Kind::Throttle => THROTTLE,
            Kind::Heartbeat => settings.keepalive.longest_quiet().unwrap_or(Duration::MAX),
        };
        self.deadlines.take_changes(timeout, apply);
    }

    /// Records that the owner's watcher has reported the key of `kind`, which it no longer holds. The owner reads the
    /// socket once more before it calls [`expired`](Session::expired).
    pub(crate) fn fired(&mut self, kind: Kind) {
        self.deadlines.fire(kind);
    }

    /// Judges the deadline of `kind`, which was [reported](Session::fired), at `now`; `late` is the time since it was
    /// missed. Nothing happens if it has begun again since.
    pub(crate) fn expired(&mut self, kind: Kind, now: Timestamp, late: Duration) {
        if !self.deadlines.take_fired(kind) {
            return;
        }
        let late = clock::nanos(late);
        let too_slow = |what: &'static str| Ending::new(Cause::TooSlow, what).with_late(late);
        match kind {
            Kind::Handshake => {
                let answer = Answer::new(if self.phase == Phase::Deciding {
                    503
                } else {
                    408
                });
                self.end_handshake(too_slow("the handshake took too long"), &answer, now);
            }
            Kind::Silence => self.next_in_silence(now, late),
            Kind::Message => {
                let ending = too_slow("a message was incomplete for too long");
                self.end(ending, now, How::Flush);
            }
            Kind::Drain => {
                let ending = Ending::new(Cause::Stuck, "no byte was accepted for too long");
                self.end(ending.with_late(late), now, How::Abort);
                self.finish();
            }
            Kind::Closing if self.awaits_handlers => self.awaits_handlers = false,
            Kind::Closing => self.finish(),
            Kind::Heartbeat => drop(self.ping()),
            Kind::Throttle => self.end_throttle(now),
        }
    }

    /// Records a sign of life of the peer.
    pub(super) fn hear(&mut self, now: Timestamp) {
        self.heard = self.heard.max(now.as_nanos());
        if self.is_open() && !self.is_deaf {
            self.begin_silence();
        }
    }

    /// Begins the time of the keepalive.
    pub(super) fn begin_silence(&mut self) {
        if self.pings == 0 {
            self.deadlines.arm(Kind::Silence);
        } else {
            self.deadlines.rearm(Kind::Silence);
        }
        self.pings = 0;
        self.awaits_ping = false;
    }

    /// Pings the silent peer, or drops it.
    fn next_in_silence(&mut self, now: Timestamp, late: u64) {
        match self.settings.keepalive.after(self.pings).1 {
            Next::Ping => {
                // The time to the next step begins when the ping is written.
                self.awaits_ping = true;
                if !self.ping() {
                    self.ping_was_written(now);
                }
            }
            Next::Drop => {
                let silent = self.settings.keepalive.drop_after();
                let ending = Ending::new(Cause::Silence, format!("silent for {silent:?}"));
                self.end(ending.with_late(late), now, How::Abort);
            }
        }
    }

    /// Lets a ping be written next. Returns whether there is one: a codec may have no encoding of it.
    fn ping(&mut self) -> bool {
        self.ping_number = self.ping_number.wrapping_add(1);
        let kind = self.settings.keepalive.kind();
        let is_websocket = self.wire.link == Link::WebSocket;
        let mut frames = Vec::new();
        if is_websocket && kind != Ping::Message {
            frames = websocket::control_frame(Opcode::Ping, &self.nonce(), self.wire.role);
        }
        if !is_websocket || matches!(kind, Ping::Message | Ping::Both) {
            frames.append(&mut plain(self.wire, PING));
        }
        let is_some = !frames.is_empty();
        if is_some {
            self.outbox.ping(frames);
        }
        is_some
    }

    /// Returns the payload of the last ping.
    pub(super) fn nonce(&self) -> [u8; 8] {
        (self.settings.salt ^ u64::from(self.ping_number)).to_be_bytes()
    }

    /// Records that a ping was written.
    pub(super) fn ping_was_written(&mut self, now: Timestamp) {
        self.pinged = Some(Moment::new(now));
        if std::mem::take(&mut self.awaits_ping) {
            self.pings += 1;
            if self.is_open() && !self.is_deaf {
                self.deadlines.rearm(Kind::Silence);
            }
        }
    }

    /// Records that a pong was read.
    pub(super) fn pong_was_read(&mut self, now: Timestamp) {
        if let Some(pinged) = self.pinged.take() {
            let rtt = now.as_nanos().saturating_sub(pinged.get());
            self.rtt = NonZeroU64::new(rtt.max(1));
        }
    }

    /// Reads on if the rate of messages allows it.
    fn end_throttle(&mut self, now: Timestamp) {
        let rate = &self.settings.limits.rate;
        if rate.is_none_or(|rate| self.meter.allows(&rate, now.as_nanos())) {
            self.is_throttled = false;
            self.update_hearing();
        } else {
            self.deadlines.arm(Kind::Throttle);
        }
    }

    /// Handles more messages than the rate allows.
    pub(super) fn exceeded_rate(&mut self, excess: Excess, now: Timestamp) {
        match excess {
            Excess::Throttle if self.is_open() => {
                self.is_throttled = true;
                self.deadlines.arm(Kind::Throttle);
            }
            Excess::Throttle => {}
            Excess::Close => {
                let ending = Ending::new(Cause::RateLimit, "too many messages");
                self.end(ending, now, How::Flush);
            }
        }
    }
}
