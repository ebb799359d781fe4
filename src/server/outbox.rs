//! What waits to be written to one connection.
//!
//! Frames wait in chunks, each of which holds whole frames. A control frame is not queued behind them: it has a place
//! of its own, where a later ping replaces an earlier one, and it is written between two chunks. It therefore counts
//! for no limit, and a peer that is sent much is still pinged. A connection to which nothing is written has no buffer,
//! nor a queue.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Deref;

use bytes::Bytes;

/// The longest chunk to which further frames are appended, bytes: a control frame waits for at most this much, or for
/// one frame.
const CHUNK: usize = 16 << 10;

/// The most bytes of pong frames that wait. A protocol test of WebSocket sends ten pings at once and asks for all
/// pongs.
const MAX_PONGS: usize = 4 << 10;

/// What a chunk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// This number of messages.
    Messages(u32),
    /// A ping.
    Ping,
    /// Any other control frame, or an answer to a request for a connection.
    Other,
}

/// How much room is made in a chunk to which a frame is appended, bytes: a few short frames.
const ROOM: usize = 512;

/// Where bytes are.
#[derive(Debug)]
pub(crate) enum Data {
    /// In a buffer of this connection.
    Own(Vec<u8>),
    /// In a buffer that others may share.
    Shared(Bytes),
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Data::Own(bytes)
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Data::Shared(bytes)
    }
}

impl From<&[u8]> for Data {
    fn from(bytes: &[u8]) -> Self {
        let mut own = Vec::with_capacity(bytes.len().max(ROOM));
        own.extend_from_slice(bytes);
        Data::Own(own)
    }
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Data::Own(bytes) => bytes,
            Data::Shared(bytes) => bytes,
        }
    }
}

/// Whole frames.
#[derive(Debug)]
struct Chunk {
    /// The bytes.
    data: Data,
    /// What they are.
    content: Content,
}

/// The control frames that wait.
#[derive(Debug, Default)]
struct Control {
    /// The next ping, which may be more than one frame.
    ping: Vec<u8>,
    /// The next pong frames; at most [`MAX_PONGS`].
    pongs: Vec<u8>,
    /// The next pong message.
    pong_message: Vec<u8>,
}

impl Control {
    /// Returns whether none waits.
    fn is_empty(&self) -> bool {
        self.ping.is_empty() && self.pongs.is_empty() && self.pong_message.is_empty()
    }
}

/// What was written by a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// The messages whose first byte was written before, or is now, and whose chunk is complete.
    pub(crate) messages: u64,
    /// Whether a ping was completed.
    pub(crate) ping: bool,
}

/// What waits.
#[derive(Debug, Default)]
struct Waiting {
    /// The chunks, the next one first.
    queue: VecDeque<Chunk>,
    /// How much of the first chunk is written.
    written: usize,
    /// The bytes of messages in the queue that are not written.
    queued: usize,
    /// The control frames that are not in the queue.
    control: Control,
}

/// What waits to be written to one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What waits; `None` if nothing does.
    waiting: Option<Box<Waiting>>,
    /// How many bytes the owner has taken that the socket has not accepted.
    held: u32,
    /// Whether nothing is accepted now or later.
    is_sealed: bool,
}

impl Outbox {
    /// Returns whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Returns how many bytes of messages wait, with what the owner holds.
    pub(crate) fn queued(&self) -> usize {
        let queued = self.waiting.as_ref().map_or(0, |waiting| waiting.queued);
        queued + self.held as usize
    }

    /// Sets how many bytes the owner holds, and returns how many it held.
    pub(crate) fn hold(&mut self, held: usize) -> usize {
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        std::mem::replace(&mut self.held, held) as usize
    }

    /// Returns whether nothing waits, and the owner holds nothing.
    pub(crate) fn is_written(&self) -> bool {
        self.is_empty() && self.held == 0
    }

    /// Queues a whole frame with one message. A short one is copied behind others.
    pub(crate) fn push(&mut self, frame: impl AsRef<[u8]> + Into<Data>) {
        let waiting = self.waiting.get_or_insert_default();
        let bytes = frame.as_ref();
        waiting.queued += bytes.len();
        if let Some(Chunk {
            data: Data::Own(own),
            content: Content::Messages(count),
        }) = waiting.queue.back_mut()
            && own.len() + bytes.len() <= CHUNK
        {
            if own.capacity() < own.len() + bytes.len() {
                own.reserve(bytes.len().max(ROOM));
            }
            own.extend_from_slice(bytes);
            *count += 1;
            return;
        }
        waiting.queue.push_back(Chunk {
            data: frame.into(),
            content: Content::Messages(1),
        });
    }

    /// Queues bytes that are no message.
    pub(crate) fn push_other(&mut self, bytes: Vec<u8>) {
        let waiting = self.waiting.get_or_insert_default();
        waiting.queue.push_back(Chunk {
            data: Data::Own(bytes),
            content: Content::Other,
        });
    }

    /// Lets a ping be written next, in place of one that waits.
    pub(crate) fn ping(&mut self, frames: Vec<u8>) {
        if !self.is_sealed {
            self.waiting.get_or_insert_default().control.ping = frames;
        }
    }

    /// Lets a pong frame be written next, behind those that wait, or in their place if they are many: a peer that pings
    /// so often learns from the last one that it was heard.
    pub(crate) fn pong(&mut self, mut frame: Vec<u8>) {
        if !self.is_sealed {
            let waiting = &mut self.waiting.get_or_insert_default().control.pongs;
            if waiting.len() + frame.len() > MAX_PONGS {
                waiting.clear();
            }
            waiting.append(&mut frame);
        }
    }

    /// Lets a pong message be written next, unless one waits.
    pub(crate) fn pong_message(&mut self, frame: impl FnOnce() -> Vec<u8>) {
        if !self.is_sealed {
            let waiting = &mut self.waiting.get_or_insert_default().control;
            if waiting.pong_message.is_empty() {
                waiting.pong_message = frame();
            }
        }
    }

    /// Queues the last bytes of the connection after everything else, which may be none, and refuses what follows.
    pub(crate) fn seal(&mut self, last: Vec<u8>) {
        self.is_sealed = true;
        if let Some(waiting) = &mut self.waiting {
            waiting.control = Control::default();
        }
        if last.is_empty() {
            self.give_back();
        } else {
            self.push_other(last);
        }
    }

    /// Discards what waits, but for the rest of a chunk that is written in part. Returns how many bytes of messages
    /// were discarded.
    pub(crate) fn discard(&mut self) -> usize {
        let Some(waiting) = &mut self.waiting else {
            return 0;
        };
        waiting.control = Control::default();
        waiting.queue.truncate(usize::from(waiting.written > 0));
        let left = match waiting.queue.front() {
            Some(chunk) if matches!(chunk.content, Content::Messages(_)) => {
                chunk.data.len() - waiting.written
            }
            _ => 0,
        };
        let discarded = std::mem::replace(&mut waiting.queued, left) - left;
        self.give_back();
        discarded
    }

    /// Fills `slices` with what is to be written next, and returns how many were filled.
    pub(crate) fn slices<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(waiting) = &mut self.waiting else {
            return 0;
        };
        waiting.place_control();
        let mut skip = waiting.written;
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&waiting.queue) {
            *slice = IoSlice::new(&chunk.data[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// Records that the next `count` bytes were written.
    pub(crate) fn wrote(&mut self, count: usize) -> Written {
        let waiting = self.waiting.as_mut();
        let written = waiting.map_or_else(Written::default, |waiting| waiting.wrote(count));
        self.give_back();
        written
    }

    /// Gives the memory back if nothing waits.
    fn give_back(&mut self) {
        let is_empty = |it: &mut Box<Waiting>| it.queue.is_empty() && it.control.is_empty();
        self.waiting.take_if(is_empty);
    }

    /// Returns how many bytes are allocated, at least.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let size = |it: &Waiting| size_of::<Waiting>() + it.queue.capacity() * size_of::<Chunk>();
        self.waiting.as_deref().map_or(0, size)
    }
}

impl Waiting {
    /// Moves the control frames to where they are written next.
    fn place_control(&mut self) {
        if self.control.is_empty() {
            return;
        }
        // Behind what is written in part, and behind other frames of this kind or the answer to a request.
        let is_message = |chunk: &Chunk| matches!(chunk.content, Content::Messages(_));
        let first = usize::from(self.written > 0);
        let before = self.queue.iter().skip(first);
        let at = first + before.take_while(|chunk| !is_message(chunk)).count();
        let Control {
            ping,
            pongs,
            pong_message,
        } = std::mem::take(&mut self.control);
        let frames = [
            (pongs, Content::Other),
            (pong_message, Content::Other),
            (ping, Content::Ping),
        ];
        for (bytes, content) in frames.into_iter().rev() {
            if !bytes.is_empty() {
                let data = Data::Own(bytes);
                self.queue.insert(at, Chunk { data, content });
            }
        }
    }

    /// Records that the next `count` bytes were written.
    fn wrote(&mut self, mut count: usize) -> Written {
        let mut written = Written::default();
        while let (true, Some(first)) = (count > 0, self.queue.front()) {
            let left = first.data.len() - self.written;
            let step = left.min(count);
            count -= step;
            self.written += step;
            if matches!(first.content, Content::Messages(_)) {
                self.queued -= step;
            }
            if step < left {
                break;
            }
            match first.content {
                Content::Messages(messages) => written.messages += u64::from(messages),
                Content::Ping => written.ping = true,
                Content::Other => {}
            }
            self.written = 0;
            self.queue.pop_front();
        }
        written
    }
}
