//! The handle of a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{RecvTimeoutError, bounded};

use super::job::Asked;
use super::reactor;
use super::shared::{Owner, Shared};
use super::state::State;
use super::stats::ClientStats;
use crate::server::codec::{Codec, Decode, Encode, Head};
use crate::server::{EncodeError, Fault, RequestError, SendError};

/// A client of one server. Clones are handles to the same client.
///
/// All methods can be called from any thread and from handlers. When the last handle of the program is dropped, the
/// client is [closed](Client::close).
#[must_use = "the client is closed when its last handle is dropped"]
pub struct Client<C> {
    /// What the handles own.
    owner: Arc<Owner<C>>,
}

impl<C> Clone for Client<C> {
    fn clone(&self) -> Self {
        Client {
            owner: self.owner.clone(),
        }
    }
}

impl<C: Codec> Client<C> {
    /// Returns a handle for a call of the program. If the program has dropped all of its own, the client is closed.
    pub(super) fn of(shared: &Arc<Shared<C>>) -> Self {
        Client {
            owner: shared.owner(),
        }
    }

    /// Returns the handle of `owner`.
    pub(super) fn new(owner: Arc<Owner<C>>) -> Self {
        Client { owner }
    }

    /// Sends a message named `name`. `Ok` means that it is queued. It waits while there is no connection. It is sent at
    /// most once: if the connection ends while it is written, it is counted as lost.
    ///
    /// # Errors
    ///
    /// Returns a [`SendError`] if the client is closed, if the queue is full, or if the message is longer than it or
    /// has no encoding.
    pub fn send<B: Encode<C> + ?Sized>(&self, name: &str, body: &B) -> Result<(), SendError> {
        let frame = self.frame(Head::new(name), body)?;
        self.shared().push(frame, None, None)
    }

    /// Sends a request, and waits for its answer for at most `within`. It waits in the queue while there is no
    /// connection. It is never sent twice, and not after its time is over.
    ///
    /// # Errors
    ///
    /// Returns a [`RequestError`] if the request is not sent, the answer does not come in time or is an error, or the
    /// connection ends before. An inline handler gets [`WouldDeadlock`](RequestError::WouldDeadlock).
    pub fn request<B, R>(&self, name: &str, body: &B, within: Duration) -> Result<R, RequestError>
    where
        B: Encode<C> + ?Sized,
        R: Decode<C>,
    {
        if reactor::is_reactor() {
            return Err(RequestError::WouldDeadlock);
        }
        let shared = self.shared();
        let id = shared.next_request();
        let frame = self
            .frame(Head::new(name).id(Some(id)), body)
            .map_err(|error| RequestError::Send(error.into()))?;
        let (sender, answer) = bounded(1);
        shared
            .push(frame, Some((id, sender)), None)
            .map_err(RequestError::Send)?;
        let answered = match answer.recv_timeout(within) {
            Err(RecvTimeoutError::Timeout) if shared.give_up(id) => Err(RequestError::Timeout),
            // It was answered at the last moment.
            Err(RecvTimeoutError::Timeout) => answer.recv().unwrap_or(Err(RequestError::Lost)),
            Err(RecvTimeoutError::Disconnected) => Err(RequestError::Lost),
            Ok(answered) => answered,
        };
        R::decode(shared.wire.codec, &answered?).map_err(RequestError::Decode)
    }

    /// Returns the state. It may change at any time after the call.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared().state()
    }

    /// Returns the statistics.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.shared().stats()
    }

    /// Returns a function that reads the state and the statistics while the program has handles, and is none itself.
    #[cfg(feature = "observe")]
    pub(crate) fn reader(
        &self,
    ) -> impl Fn() -> Option<(State, ClientStats)> + Send + Sync + 'static {
        let owner = Arc::downgrade(&self.owner);
        move || {
            let client = Client {
                owner: owner.upgrade()?,
            };
            Some((client.state(), client.stats()))
        }
    }

    /// Closes the client. What waits is written if there is a connection, and dropped if not. Requests that wait get
    /// [`Lost`](RequestError::Lost). Does not wait.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Closes the client like [`close`](Client::close), and waits until its socket is closed, for at most `within`.
    /// Returns whether it is; `false` at once in an inline handler, which the socket waits for. Handlers may still run.
    #[must_use = "the socket may still be open"]
    pub fn close_timeout(&self, within: Duration) -> bool {
        self.close();
        let within = if reactor::is_reactor() {
            Duration::ZERO
        } else {
            within
        };
        self.shared().wait_until_gone(within)
    }

    /// Sends the answer to a request of the server, over the connection that it came over.
    pub(super) fn answer<A: Encode<C>>(
        &self,
        name: &str,
        answered: Result<A, Fault>,
        (id, epoch): Asked,
    ) -> Result<(), SendError> {
        match answered {
            Ok(body) => {
                let frame = self.frame(Head::new(name).re(Some(id)), &body)?;
                self.shared().push(frame, None, Some(epoch))
            }
            Err(fault) => self.shared().refuse(&fault, (id, epoch)),
        }
    }

    /// Encodes a message.
    fn frame<B: Encode<C> + ?Sized>(&self, head: Head<'_>, body: &B) -> Result<Bytes, EncodeError> {
        let mut frame = Vec::new();
        self.shared().wire.encode(head, body, &mut frame)?;
        Ok(frame.into())
    }

    /// What all parts of the client share.
    fn shared(&self) -> &Shared<C> {
        &self.owner.0
    }
}

impl<C> fmt::Debug for Client<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.owner.0.id)
            .field("state", &self.owner.0.state())
            .finish_non_exhaustive()
    }
}
