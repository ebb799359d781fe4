//! Requests to the peer, and answers to its own.

use std::num::NonZeroU64;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::super::codec::{Codec, Decode, Encode, Fault, Head, RequestId};
use super::super::error::{RequestError, SendError};
use super::{Agent, Answered, Requests};
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;

/// A request that waits for an answer until this is dropped.
struct Outstanding<'a>(&'a Mutex<Requests>, RequestId);

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(self.1);
    }
}

impl<C: Codec, T> Agent<C, T> {
    /// Sends a request, and waits for its answer for at most `within`.
    ///
    /// # Errors
    ///
    /// Returns a [`RequestError`] if the request is not sent, the answer does not come in time or is an error, or the
    /// connection ends. An inline handler gets [`WouldDeadlock`](RequestError::WouldDeadlock).
    pub fn request<B, R>(&self, name: &str, body: &B, within: Duration) -> Result<R, RequestError>
    where
        B: Encode<C> + ?Sized,
        R: Decode<C>,
    {
        let inner = &*self.inner;
        if inner.hub.is_reactor_thread() {
            return Err(RequestError::WouldDeadlock);
        }
        let id = inner.hub.next_request.fetch_add(1, Ordering::Relaxed);
        let id = NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN);
        let (sender, answer) = bounded(1);
        let mut requests = inner.requests.lock();
        if requests.has_ended {
            return Err(RequestError::Send(SendError::Closed));
        }
        let waiting = requests.waiting.get_or_insert_default();
        waiting.insert(id, sender);
        drop(requests);
        // Also if the encoding panics.
        let _outstanding = Outstanding(&inner.requests, id);
        self.send_head(Head::new(name).id(Some(id)), body, true)
            .map_err(RequestError::Send)?;
        let answered = match answer.recv_timeout(within) {
            Ok(answered) => answered.map_err(RequestError::Fault)?,
            Err(RecvTimeoutError::Timeout) => return Err(RequestError::Timeout),
            Err(RecvTimeoutError::Disconnected) => return Err(RequestError::Lost),
        };
        let codec = self.wire().ok_or(RequestError::Lost)?.codec;
        R::decode(codec, &answered).map_err(RequestError::Decode)
    }

    /// Answers the message `name`, if it was a request and has the number `re`.
    pub(crate) fn answer<B: Encode<C>>(
        &self,
        name: &str,
        re: Option<RequestId>,
        answer: Result<B, Fault>,
    ) {
        if re.is_some() {
            // A peer that has gone needs no answer.
            let _ = match answer {
                Ok(body) => self.send_head(Head::new(name).re(re), &body, true),
                Err(fault) => self.send_fault(&fault, re),
            };
        }
    }

    /// Passes on the answer to the request `re`.
    pub(crate) fn answered(&self, re: RequestId, answer: Answered) {
        let sender = self.inner.requests.lock().remove(re);
        if let Some(sender) = sender {
            // It has room for one.
            let _ = sender.try_send(answer);
        }
    }

    /// Ends all requests.
    pub(crate) fn lose_requests(&self) {
        let mut requests = self.inner.requests.lock();
        requests.has_ended = true;
        let lost = requests.waiting.take();
        drop(requests);
        drop(lost);
    }
}
