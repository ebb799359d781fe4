//! How a session ends: the first cause counts.

use std::time::Duration;

use super::super::close::{Cause, Closed, Ending, is_legal};
use super::super::codec::{Codec, Fault};
use super::super::http::Answer;
#[cfg(feature = "client")]
use super::super::http::upgrade::Rejected;
use super::super::websocket::{self, Opcode, Role};
use super::super::wire::Link;
use super::{Kind, Phase, Session, Step};
use crate::clock::{self, Timestamp};

/// What is done before the socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Everything is written, and the peer's answer is awaited.
    Await,
    /// Everything is written.
    Flush,
    /// What waits is discarded; the close is written if the socket takes it at once.
    Abort,
}

impl<C: Codec> Session<C> {
    /// Ends the session if something that was received does. The owner calls this after it has queued what was answered
    /// at once to the messages before.
    pub(crate) fn conclude(&mut self, now: Timestamp) {
        if self.is_concluding
            && !self.awaits_handlers
            && let Some(ending) = self.ending.take()
        {
            self.end(*ending, now, How::Flush);
        }
    }

    /// Lets the session end for something that was received. Nothing that follows it is read.
    pub(super) fn found(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.ending = Some(Box::new(ending));
            self.is_concluding = true;
            self.update_hearing();
        } else if self.phase == Phase::Closing {
            self.phase = Phase::Flushing;
        }
    }

    /// Closes the session for `cause` with `code` and `reason`, which are cut or replaced if they must not be sent. A
    /// session that was not opened is refused with status 503, or ended by a client.
    pub(crate) fn close(
        &mut self,
        cause: Cause,
        code: Option<u16>,
        reason: String,
        now: Timestamp,
    ) {
        let ending = Ending::new(cause, reason);
        let ending = match code {
            Some(code) => ending.with_code(code),
            None => ending,
        };
        if matches!(self.phase, Phase::Requesting | Phase::Deciding) {
            self.end_handshake(ending, &Answer::new(503), now);
        } else {
            // What a slow consumer was sent is discarded, as in an overflow that the session finds itself.
            let how = if cause == Cause::SlowConsumer {
                How::Abort
            } else {
                How::Await
            };
            self.end(ending, now, how);
        }
    }

    /// Answers the upgrade request with another status than 101, and closes.
    pub(crate) fn refuse(&mut self, answer: &Answer, now: Timestamp) {
        let ending = Ending::new(Cause::Refused, answer.text.clone());
        self.end_handshake(ending, answer, now);
    }

    /// Ends a session that was not opened: a server with `answer`, a client without a word.
    pub(super) fn end_handshake(&mut self, mut ending: Ending, answer: &Answer, now: Timestamp) {
        if !matches!(self.phase, Phase::Requesting | Phase::Deciding) {
            return;
        }
        if self.wire.role == Role::Client {
            self.end_with(ending, Vec::new(), now, How::Abort);
        } else {
            ending.code = answer.status;
            let is_head = self.handshake.as_ref().is_some_and(|it| it.is_head);
            let last = match self.wire.link {
                Link::WebSocket => answer.to_bytes(is_head),
                Link::Tcp(_) => Vec::new(),
            };
            self.end_with(ending, last, now, How::Flush);
        }
    }

    /// Ends the session of a client, whose request was `rejected`.
    #[cfg(feature = "client")]
    pub(super) fn rejected(&mut self, rejected: Rejected, now: Timestamp) {
        let ending = match rejected {
            Rejected::Status(status, text) => {
                let mut ending = Ending::new(Cause::Refused, text);
                ending.code = status;
                ending
            }
            Rejected::Broken(why) => Ending::new(Cause::Protocol, why),
        };
        self.end_with(ending, Vec::new(), now, How::Abort);
    }

    /// Returns the ending of a connection that the peer has ended for `cause`, if it did not say why on TCP.
    fn without_close(&mut self, cause: Cause) -> Ending {
        let farewell = self.farewell.take().map(|it| *it);
        if let Some(Fault { code, message }) = farewell
            && let Ok(code) = u16::try_from(code)
            && is_legal(code)
        {
            return Ending::received(Cause::Peer, code, message);
        }
        Ending::received(cause, 1006, String::new())
    }

    /// Records that the peer has ended its direction.
    pub(crate) fn eof(&mut self) {
        self.is_eof = true;
        let ending = self.without_close(Cause::Eof);
        self.found(ending);
    }

    /// Records that the peer has ended its direction while its messages are handled. On TCP it may read on: the session
    /// ends after the answers, for which there is the time of a close.
    pub(crate) fn eof_while_handling(&mut self) {
        let is_first = self.is_open() && self.ending.is_none();
        self.eof();
        if is_first && self.wire.link != Link::WebSocket {
            self.awaits_handlers = true;
            self.deadlines.arm(Kind::Closing);
        }
    }

    /// Records that the messages of a peer that has ended its direction were handled.
    pub(crate) fn handled(&mut self) {
        self.awaits_handlers = false;
    }

    /// Ends the session because its owner cannot decrypt what the peer sends. What waits can no longer be sent.
    #[cfg(feature = "tls")]
    pub(crate) fn undecipherable(&mut self, why: String) {
        let unsent = self.outbox.discard() as u64;
        self.found(Ending::new(Cause::Protocol, why));
        if let Some(ending) = &mut self.ending {
            ending.unsent += unsent;
        }
    }

    /// Records that the socket has failed.
    pub(crate) fn failed(&mut self, now: Timestamp) {
        let ending = self.without_close(Cause::Reset);
        self.end_with(ending, Vec::new(), now, How::Abort);
        self.finish();
    }

    /// Ends the session because more waits to be written than may.
    pub(super) fn overflow(&mut self, now: Timestamp) {
        let ending = Ending::new(Cause::SlowConsumer, "too many bytes wait to be read");
        self.end(ending, now, How::Abort);
    }

    /// Ends the session because its codec panicked.
    pub(crate) fn broken(&mut self) {
        self.found(Ending::new(Cause::Handler, "the codec panicked"));
    }

    /// Ends an open session, with a close that says why.
    pub(super) fn end(&mut self, ending: Ending, now: Timestamp, how: How) {
        let last = self.farewell(&ending);
        self.end_with(ending, last, now, how);
    }

    /// Returns the last bytes that say why the session ends.
    fn farewell(&self, ending: &Ending) -> Vec<u8> {
        let Ending {
            cause,
            code,
            reason,
            ..
        } = ending;
        match self.wire.link {
            _ if *cause == Cause::Eof => Vec::new(),
            Link::WebSocket => {
                let mut payload = code.to_be_bytes().to_vec();
                payload.extend_from_slice(reason.as_bytes());
                // The answer to a close frame repeats its code, if it has one.
                payload.truncate(match (cause, code) {
                    (Cause::Peer, 1005) => 0,
                    (Cause::Peer, _) => 2,
                    _ => payload.len(),
                });
                websocket::control_frame(Opcode::Close, &payload, self.wire.role)
            }
            // Not after a usual end: old peers know the message as an error only.
            Link::Tcp(_) if *code == 1000 || *cause == Cause::Peer => Vec::new(),
            Link::Tcp(_) => {
                let mut frame = Vec::new();
                let fault = Fault::new(u32::from(*code), &**reason);
                // Best effort; a fault has an encoding.
                let _ = self.wire.encode_fault(&fault, None, &mut frame);
                frame
            }
        }
    }

    /// Ends the session with these last bytes, unless it has ended.
    fn end_with(&mut self, mut ending: Ending, last: Vec<u8>, now: Timestamp, how: How) {
        let is_concluding = std::mem::take(&mut self.is_concluding);
        if self.ending.is_some() && !is_concluding {
            return;
        }
        if std::mem::take(&mut self.awaits_handlers)
            && let Some(first) = self.ending.take()
        {
            ending = *first;
        }
        ending.at = now.as_nanos();
        if how == How::Abort {
            ending.unsent += self.outbox.discard() as u64;
        }
        self.handshake = None;
        self.is_deaf = false;
        self.ending = Some(Box::new(ending));
        self.outbox.seal(last);
        self.phase = match how {
            How::Await if !is_concluding => Phase::Closing,
            How::Await | How::Flush => Phase::Flushing,
            How::Abort => Phase::Aborting,
        };
        self.deadlines.disarm_all();
        self.deadlines.arm(Kind::Closing);
    }

    /// Lets the socket be closed at once.
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Done;
        self.deadlines.disarm_all();
    }

    /// Returns what the owner does with the socket, after a flush.
    pub(crate) fn step(&mut self) -> Step {
        let is_written = self.outbox.is_written();
        match self.phase {
            Phase::Done | Phase::Aborting => self.finish(),
            Phase::Closing | Phase::Flushing | Phase::Lingering if self.is_eof && is_written => {
                self.finish();
            }
            Phase::Closing if is_written && self.wire.link != Link::WebSocket => {
                return self.linger();
            }
            Phase::Flushing if is_written => return self.linger(),
            _ => return Step::Run,
        }
        Step::Close
    }

    /// Shuts this direction down and reads on until the peer does so too.
    fn linger(&mut self) -> Step {
        self.phase = Phase::Lingering;
        self.deadlines.rearm(Kind::Closing);
        Step::ShutdownWrite
    }

    /// Returns the report of the end, or `None` before it.
    pub(crate) fn closed(&self) -> Option<Closed> {
        let ending = self.ending.as_ref()?;
        let since = |from: u64| clock::duration(ending.at.saturating_sub(from));
        Some(Closed {
            cause: ending.cause,
            code: ending.code,
            reason: ending.reason.to_string(),
            opened_for: self.opened.map_or(Duration::ZERO, |it| since(it.get())),
            silent: since(self.heard),
            late: clock::duration(ending.late),
            received: self.received,
            sent: self.sent,
            unsent: ending.unsent + self.queued() as u64,
        })
    }
}
