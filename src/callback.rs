//! A thread that runs callbacks, and its end.

use std::fmt;
use std::io;
use std::thread::{self, JoinHandle, ThreadId};

/// A thread that runs callbacks. Dropping this orders the thread to stop, and blocks until it has ended. If a callback
/// on that thread drops it, the drop does not block, and the thread ends by itself.
pub(crate) struct CallbackThread {
    /// Orders the thread to stop; called once.
    stop: Box<dyn Fn() + Send + Sync>,
    /// The id of the thread.
    id: ThreadId,
    /// The thread, until it is joined.
    thread: Option<JoinHandle<()>>,
}

impl CallbackThread {
    /// Spawns a thread called `name` that runs `body`, which returns soon after `stop` is called. `body` catches the
    /// panics of the callbacks.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system if the thread cannot be spawned.
    pub(crate) fn spawn(
        name: &str,
        body: impl FnOnce() + Send + 'static,
        stop: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let thread = thread::Builder::new().name(name.into()).spawn(body)?;
        Ok(CallbackThread {
            stop: Box::new(stop),
            id: thread.thread().id(),
            thread: Some(thread),
        })
    }

    /// Treats the current thread as one that runs callbacks, for tests that call them directly.
    #[cfg(all(test, feature = "pacemaker"))]
    pub(crate) fn current() -> Self {
        CallbackThread {
            stop: Box::new(|| ()),
            id: thread::current().id(),
            thread: None,
        }
    }

    /// Returns whether the caller is a callback on this thread.
    pub(crate) fn is_current(&self) -> bool {
        self.id == thread::current().id()
    }
}

impl Drop for CallbackThread {
    fn drop(&mut self) {
        (self.stop)();
        let is_current = self.is_current();
        if let Some(thread) = self.thread.take().filter(|_| !is_current) {
            // A panic was reported where it was caught.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for CallbackThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackThread")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn dropping_it_stops_the_thread_and_blocks_until_it_has_ended() {
        let ended = Arc::new(Mutex::new(false));
        let (order, ordered) = bounded::<()>(1);
        let body = {
            let ended = ended.clone();
            move || {
                ordered.recv().unwrap();
                *ended.lock().unwrap() = true;
            }
        };
        let thread = CallbackThread::spawn("test", body, move || order.send(()).unwrap()).unwrap();
        assert!(!thread.is_current());
        drop(thread);
        assert!(*ended.lock().unwrap());
    }

    #[test]
    fn a_callback_may_drop_its_own_thread() {
        let (give, given) = bounded::<CallbackThread>(1);
        let (tell, told) = bounded(1);
        let body = move || {
            let own = given.recv().unwrap();
            let is_current = own.is_current();
            drop(own);
            tell.send(is_current).unwrap();
        };
        let thread = CallbackThread::spawn("test", body, || ()).unwrap();
        give.send(thread).unwrap();
        assert!(told.recv().unwrap());
    }
}
