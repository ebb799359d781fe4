//! What the comparisons of this package share: how a comparison runs, and what it knows of the machine and of
//! processes.

pub mod child;
pub mod frame;
pub mod others;
pub mod progress;
pub mod text;

use std::error::Error;

/// What a failure is, whatever its cause.
pub type Failure = Box<dyn Error + Send + Sync>;
