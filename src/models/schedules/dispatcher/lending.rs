//! What becomes of an event that another store lends, and recalls or stops while it starts or ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use shuttle::thread;

use super::super::explore;
use super::TOPIC;
use crate::ManualClock;
use crate::dispatch::attempt::Outcome;
use crate::dispatch::lease::{Lease, Lender};
use crate::dispatch::local::Core;
use crate::dispatch::local::lending::Leased;
use crate::dispatch::local::settings::Settings;
use crate::dispatch::plan::TopicId;
use crate::dispatch::{Cause, Context, EventId, On};

/// Counts each event that is settled, in a byte of its own.
struct Store(Arc<AtomicU64>);

impl Lender for Store {
    fn settle(&self, _: TopicId, lease: &Lease, _: Outcome, _: u64, _: u64) {
        self.0.fetch_add(byte(lease.id.get()), SeqCst);
    }
}

/// One in the byte of the event `id`.
fn byte(id: u64) -> u64 {
    1 << (8 * id)
}

#[test]
fn a_lent_event_is_settled_or_recalled_or_returned() {
    explore("a_lent_event_is_settled_or_recalled_or_returned", || {
        let settled = Arc::<AtomicU64>::default();
        let core = Core::start(Settings {
            threads: 2,
            clock: Some(ManualClock::new().into()),
            lender: Some(Arc::new(Store(settled.clone()))),
            ..Settings::new()
        });
        let core = core.unwrap();
        let handle = |_: &Context, _: &u64| Err("again".into());
        core.on(&TOPIC, "run", On::new().parallel(1), handle)
            .unwrap();
        let topic = core.topic(TOPIC.name()).unwrap();
        let stopping = thread::spawn({
            let core = core.clone();
            move || core.stop(Duration::MAX).undone
        });
        let lent = [0, 1, 2].map(|id| Leased {
            event: Arc::new(id),
            headers: None,
            due: 0,
            lease: Lease {
                id: EventId::new(id),
                fence: 1,
                attempts: 0,
                rest: None,
            },
        });
        let plan_ids = core.lend(topic, lent.into());
        let plan_ids = plan_ids.unwrap_or_default();
        let ids = || plan_ids.iter().zip(0_u64..);
        let mut ended = 0;
        for (plan_id, id) in ids() {
            let is_recalled = core.recall(topic, *plan_id, Cause::LeaseLost);
            ended += u64::from(is_recalled) * byte(id);
        }
        for undone in stopping.join().unwrap() {
            let (_, id) = ids().find(|(plan_id, _)| **plan_id == undone.id).unwrap();
            ended += byte(id);
        }
        let all: u64 = ids().map(|(_, id)| byte(id)).sum();
        assert_eq!(settled.load(SeqCst) + ended, all);
        assert!(core.stats().is_balanced());
    });
}
