//! The registry through its public face, under a clock that the tests move.

mod adaptive;
mod guard;
mod incarnations;
mod listing;
mod registering;
#[cfg(feature = "serde")]
mod saved;
mod states;
mod subscribers;
mod threads;
mod user_code;

use std::time::Duration;

use liveness::ManualClock;
use liveness::registry::{
    Builder, Change, Fleet, NodeOptions, Policy, Registry, State, Update, Updates,
};

type Error = Box<dyn std::error::Error>;

/// The timeout in these tests.
const TIMEOUT: Duration = Duration::from_secs(10);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A registry under a clock that is moved by hand, and what it tells.
struct Stage {
    clock: ManualClock,
    registry: Registry<u32, &'static str>,
    fleet: Fleet<u32, &'static str>,
    updates: Updates<u32, &'static str>,
}

impl Stage {
    fn new(
        options: impl FnOnce(Builder<u32, &'static str>) -> Builder<u32, &'static str>,
    ) -> Result<Self, Error> {
        let clock = ManualClock::new();
        let builder = Registry::builder()
            .policy(Policy::Fixed(TIMEOUT))
            .clock(clock.clone());
        let registry = options(builder).build()?;
        let (fleet, updates) = registry.subscribe(10_000);
        Ok(Stage {
            clock,
            registry,
            fleet,
            updates,
        })
    }

    /// Registers nodes and lets them beat once.
    fn join(&self, ids: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        for id in ids {
            self.registry.register(id, "data")?;
            self.registry.beat(&id)?;
        }
        Ok(())
    }

    fn beat(&self, ids: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        for id in ids {
            self.registry.beat(&id)?;
        }
        Ok(())
    }

    /// Lets time pass.
    fn pass(&self, time: Duration) -> Result<(), Error> {
        self.registry.flush()?;
        self.clock.advance(time);
        Ok(self.registry.flush()?)
    }

    fn state(&self, id: u32) -> Option<State> {
        self.registry.status(&id).map(|status| status.state)
    }

    /// The ids of the list, sorted.
    fn listed(&self) -> Vec<u32> {
        let list = self.registry.available();
        let mut ids: Vec<u32> = list.iter().map(|node| *node.id()).collect();
        ids.sort_unstable();
        ids
    }

    /// What was reported of nodes since the last call; all pictures of the fleet must be the same.
    fn told(&mut self) -> Vec<(u32, Change)> {
        let mut told = Vec::new();
        for update in self.updates.try_iter() {
            self.fleet.apply(&update).expect("there is no gap");
            if let Update::Node(transition) = update {
                told.push((*transition.status.node.id(), transition.change));
            }
        }
        let mut ids: Vec<u32> = self.fleet.listed().map(|it| *it.node.id()).collect();
        ids.sort_unstable();
        assert_eq!(ids, self.listed());
        let picture = |fleet: &Fleet<u32, &str>| {
            let mut nodes: Vec<String> = fleet.iter().map(|it| format!("{it:?}")).collect();
            nodes.sort();
            (fleet.version(), nodes)
        };
        assert_eq!(picture(&self.fleet), picture(&self.registry.fleet()));
        told
    }
}

/// A registration of the life that began with this number.
fn life(number: u64) -> NodeOptions {
    NodeOptions::new().incarnation(number)
}
