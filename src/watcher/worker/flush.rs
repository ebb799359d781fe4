//! The flushes that a worker has seen and not answered. `docs/design.md` describes the protocol.

use crate::sync::answer;

/// How far a flush has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Seen in this round. Everything that was sent before it is applied, but this round may have read the clock before.
    Seen,
    /// Everything due by then, ns, is to be expired.
    Due(u64),
    /// So many items are to leave the queue.
    Marked(u64),
}

/// A flush that is not answered.
#[derive(Debug)]
struct Flush {
    /// Whom to answer.
    reply: answer::Sender<()>,
    /// Whether to wait for the queue.
    waits: bool,
    /// How far it has come.
    stage: Stage,
}

/// The flushes that are not answered. Dropping them tells the callers that there will be no answer.
#[derive(Debug, Default)]
pub(super) struct Flushes(Vec<Flush>);

impl Flushes {
    /// Adds one that was seen just now. It is answered when what it finds in the queue has left it, or, unless it `waits`,
    /// as soon as that is there.
    pub(super) fn add(&mut self, reply: answer::Sender<()>, waits: bool) {
        let stage = Stage::Seen;
        self.0.push(Flush {
            reply,
            waits,
            stage,
        });
    }

    /// Begins a round that goes by `now`, ns.
    pub(super) fn begin(&mut self, now: u64) {
        for flush in &mut self.0 {
            if let Stage::Seen = flush.stage {
                flush.stage = Stage::Due(now);
            }
        }
    }

    /// Marks the end of the queue, to which `queued` items were ever added, for those whose keys are all expired: nothing
    /// that is due before `unexpired`, ns, is left.
    pub(super) fn mark(&mut self, unexpired: Option<u64>, queued: u64) {
        for flush in &mut self.0 {
            if let Stage::Due(now) = flush.stage
                && unexpired.is_none_or(|due| due > now)
            {
                flush.stage = Stage::Marked(queued);
            }
        }
    }

    /// Answers those that wait for no more than the first `unqueued` items.
    pub(super) fn answer(&mut self, unqueued: u64) {
        self.0.retain(|flush| {
            let is_done = match flush.stage {
                Stage::Marked(mark) => mark <= unqueued || !flush.waits,
                Stage::Seen | Stage::Due(_) => false,
            };
            if is_done {
                // Whoever asked may be gone.
                let _ = flush.reply.send(());
            }
            !is_done
        });
    }
}
