//! The behaviour that every dispatcher promises, on the local dispatcher.

use std::sync::Arc;

use liveness::dispatch::{Dispatch, Dispatcher};

use crate::conformance::kit::{Make, Setup};

/// Creates local dispatchers.
pub(crate) struct Local;

impl Make for Local {
    fn make(&self, setup: &Setup) -> Arc<dyn Dispatch<String>> {
        let builder = Dispatcher::builder()
            .threads(setup.threads)
            .max_unfinished(setup.max_unfinished)
            .max_dead(setup.max_dead);
        Arc::new(builder.build().unwrap())
    }
}

/// Returns a value that creates local dispatchers.
#[expect(
    clippy::unnecessary_wraps,
    reason = "other dispatchers may not be available"
)]
fn local() -> Option<Local> {
    Some(Local)
}

crate::conformance::suite!(crate::conforming::local);
