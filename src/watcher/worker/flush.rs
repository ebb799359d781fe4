//! The flushes that a worker has received and not answered. `docs/design.md` describes the protocol.

use crate::sync::answer;

/// The progress of a flush.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Received in this round. Everything that was sent before it is applied, but this round may have read the clock
    /// earlier.
    Seen,
    /// Waits until every key that is due by this time, ns, has expired.
    Due(u64),
    /// Waits until this number of items has left the queue. If an item that leaves makes a key due by `now`, ns, waits
    /// until that key has expired too.
    Marked { now: u64, items: u64 },
}

/// A flush that is not answered.
#[derive(Debug)]
struct Flush {
    /// The channel of the answer.
    reply: answer::Sender<()>,
    /// Whether it waits for the queue.
    waits: bool,
    /// Its progress.
    stage: Stage,
}

/// The flushes that are not answered. Dropping them disconnects the callers, which then return without an answer.
#[derive(Debug, Default)]
pub(super) struct Flushes(Vec<Flush>);

impl Flushes {
    /// Adds a flush that was just received. It is answered when the items that it finds in the queue have left it, or,
    /// unless it `waits`, as soon as they are in the queue.
    pub(super) fn add(&mut self, reply: answer::Sender<()>, waits: bool) {
        let stage = Stage::Seen;
        self.0.push(Flush {
            reply,
            waits,
            stage,
        });
    }

    /// Begins a round with the clock reading `now`, ns.
    pub(super) fn begin(&mut self, now: u64) {
        for flush in &mut self.0 {
            if let Stage::Seen = flush.stage {
                flush.stage = Stage::Due(now);
            }
        }
    }

    /// Sets the mark of the flushes whose keys have all expired, because nothing that is due before `unexpired`, ns, is
    /// left. `queued` is the number of items that were ever added to the queue.
    pub(super) fn mark(&mut self, unexpired: Option<u64>, queued: u64) {
        for flush in &mut self.0 {
            if let Stage::Due(now) = flush.stage
                && unexpired.is_none_or(|due| due > now)
            {
                flush.stage = Stage::Marked { now, items: queued };
            }
        }
    }

    /// Returns whether no flush waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers the flushes that wait for at most the first `unqueued` items, unless one of these items made a key due.
    /// No key is due before `unexpired`, ns.
    pub(super) fn answer(&mut self, unqueued: u64, unexpired: Option<u64>) {
        self.0.retain_mut(|flush| {
            let Stage::Marked { now, items } = flush.stage else {
                return true;
            };
            let has_left = items <= unqueued || !flush.waits;
            let is_done = has_left && unexpired.is_none_or(|due| due > now);
            if has_left && !is_done {
                flush.stage = Stage::Due(now);
            }
            if is_done {
                // The caller may be gone.
                let _ = flush.reply.send(());
            }
            !is_done
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_also_waits_for_a_key_that_a_delivery_made_due() {
        let (reply, answered) = answer::bounded(1);
        let mut flushes = Flushes::default();
        flushes.add(reply, true);
        flushes.begin(10);
        flushes.mark(None, 3);
        // The last item has left, and a key is due to be forgotten since its report was delivered.
        flushes.answer(3, Some(7));
        assert!(!flushes.is_empty());
        flushes.mark(Some(11), 3);
        flushes.answer(3, Some(11));
        assert!(flushes.is_empty());
        answered.recv().unwrap();
    }
}
