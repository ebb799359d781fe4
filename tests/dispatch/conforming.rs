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

crate::conformance::suite!(crate::conforming::Local);
