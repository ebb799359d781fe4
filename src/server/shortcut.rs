//! The shortcut of inline handlers: what one sends to the connection whose message it handles does not pass the inbox
//! of the reactor, on whose thread it runs.
//!
//! The frames are encoded one behind the other into a buffer of the thread, and the reactor gives them to the session
//! when it has handled what it read. So that they overtake nothing that the same thread has sent before, the shortcut
//! is barred while something that the thread has put into the inbox is there.

use std::cell::Cell;

use crate::sync::thread_local;

/// The buffer is given back when it has become larger than this, bytes.
const KEPT: usize = 64 << 10;

/// Something that this thread has put into the inbox is there.
const QUEUED: u8 = 1;

/// The reactor does what it took from the inbox.
const OBEYING: u8 = 2;

/// Frames of one connection.
#[derive(Debug, Default)]
struct Frames {
    /// The frames.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

thread_local! {
    /// The connection, as the address of what its agents share; zero if there is none.
    static TO: Cell<usize> = const { Cell::new(0) };
    /// Why the shortcut is barred.
    static BARRED: Cell<u8> = const { Cell::new(0) };
    /// What was sent.
    static FRAMES: Cell<Frames> = const { Cell::new(Frames { bytes: Vec::new(), ends: Vec::new() }) };
}

/// A frame that is being encoded. It is discarded unless it is [kept](Draft::keep).
#[derive(Debug)]
pub(crate) struct Draft {
    /// The connection.
    to: usize,
    /// What was sent, and the frame.
    frames: Frames,
}

impl Draft {
    /// Begins a frame, if the connection `to` has the shortcut.
    pub(crate) fn begin(to: usize) -> Option<Self> {
        if TO.with(Cell::get) != to || BARRED.with(Cell::get) != 0 {
            return None;
        }
        // What is sent while this frame is encoded takes the long way.
        TO.with(|it| it.set(0));
        Some(Draft {
            to,
            frames: FRAMES.with(Cell::take),
        })
    }

    /// The buffer to whose end the frame is appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.frames.bytes
    }

    /// Returns the length of the frame.
    pub(crate) fn len(&self) -> usize {
        self.frames.bytes.len() - self.frames.ends.last().copied().unwrap_or(0)
    }

    /// Sends the frame.
    pub(crate) fn keep(mut self) {
        self.frames.ends.push(self.frames.bytes.len());
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let end = self.frames.ends.last().copied().unwrap_or(0);
        self.frames.bytes.truncate(end);
        FRAMES.with(|it| it.set(std::mem::take(&mut self.frames)));
        TO.with(|it| it.set(self.to));
    }
}

/// Gives the connection `to` the shortcut on this thread.
pub(crate) fn open(to: usize) {
    TO.with(|it| it.set(to));
}

/// Ends the shortcut, and calls `send` with each frame.
pub(crate) fn close(mut send: impl FnMut(&[u8])) {
    TO.with(|it| it.set(0));
    let Frames {
        mut bytes,
        mut ends,
    } = FRAMES.with(Cell::take);
    let mut start = 0;
    for end in ends.drain(..) {
        send(&bytes[start..end]);
        start = end;
    }
    bytes.clear();
    if bytes.capacity() > KEPT {
        bytes = Vec::new();
    }
    FRAMES.with(|it| it.set(Frames { bytes, ends }));
}

/// Bars the shortcut, because this thread has put something into the inbox.
pub(crate) fn bar() {
    BARRED.with(|it| it.set(it.get() | QUEUED));
}

/// Bars the shortcut while the reactor does what it takes from the inbox now.
pub(crate) fn begin_to_obey() {
    BARRED.with(|it| it.set(OBEYING));
}

/// The reactor has done what it took from the inbox.
pub(crate) fn has_obeyed() {
    BARRED.with(|it| it.set(it.get() & !OBEYING));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `frame` to `to`. Returns whether it took the shortcut.
    fn send(to: usize, frame: &[u8]) -> bool {
        let draft = Draft::begin(to).map(|mut draft| {
            draft.buffer().extend_from_slice(frame);
            assert_eq!(draft.len(), frame.len());
            draft.keep();
        });
        draft.is_some()
    }

    /// Ends the shortcut, and returns what took it.
    fn sent() -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        close(|frame| frames.push(frame.to_vec()));
        frames
    }

    #[test]
    fn frames_come_out_in_their_order_and_without_those_that_were_not_kept() {
        assert!(!send(7, b"before"));
        open(7);
        assert!(send(7, b"one") && !send(8, b"to another"));
        let mut draft = Draft::begin(7).expect("it has the shortcut");
        draft.buffer().extend_from_slice(b"half");
        assert!(!send(7, b"from within"));
        drop(draft);
        assert!(send(7, b"two"));
        assert_eq!(sent(), [&b"one"[..], b"two"]);
        assert!(!send(7, b"after"));
        assert!(sent().is_empty());
    }

    #[test]
    fn nothing_is_overtaken_that_the_thread_has_put_into_the_inbox() {
        open(7);
        assert!(send(7, b"one"));
        bar();
        assert!(!send(7, b"two"));
        begin_to_obey();
        assert!(!send(7, b"three"));
        has_obeyed();
        assert!(send(7, b"four"));
        begin_to_obey();
        bar();
        has_obeyed();
        assert!(!send(7, b"five"));
        begin_to_obey();
        has_obeyed();
        assert_eq!(sent(), [&b"one"[..], b"four"]);
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        open(7);
        assert!(send(7, &vec![0; KEPT + 1]));
        assert_eq!(sent().len(), 1);
        assert_eq!(FRAMES.with(Cell::take).bytes.capacity(), 0);
    }
}
