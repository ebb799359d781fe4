//! The behaviour that every dispatcher promises, on the durable dispatcher. Without a server the tests are skipped, or
//! fail in CI.

use std::sync::{Arc, Mutex, Weak};

use liveness::dispatch::Dispatch;
use liveness::redis::Dispatcher;

use crate::conformance::kit::{Make, Setup};
use crate::redis_server::{RedisServer, for_test};

/// Creates durable dispatchers.
pub(crate) struct Durable {
    /// The server, which the tests that run at the same time share.
    server: Arc<RedisServer>,
}

/// Returns a value that creates durable dispatchers, if there is a server.
fn durable() -> Option<Durable> {
    static SERVER: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap();
    let server = match shared.upgrade() {
        Some(server) => server,
        None => Arc::new(for_test(&[])?),
    };
    *shared = Arc::downgrade(&server);
    Some(Durable { server })
}

impl Make for Durable {
    fn make(&self, setup: &Setup) -> Arc<dyn Dispatch<String>> {
        let builder = Dispatcher::builder(&self.server.url())
            .threads(setup.threads)
            .max_unfinished(setup.max_unfinished)
            .max_dead(setup.max_dead);
        Arc::new(builder.build().unwrap())
    }
}

crate::conformance::suite!(crate::conforming::durable);
