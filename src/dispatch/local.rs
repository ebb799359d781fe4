//! The dispatcher on local threads: a plan under one lock, and the workers that share it.
//!
//! `docs/dispatch.md` describes the protocol of the lock: where each thread sleeps, which thread wakes it, and the
//! races.

mod admin;
mod core;
mod crew;
mod entry;
mod handlers;
#[cfg(any(test, feature = "redis"))]
pub(crate) mod lending;
mod monitor;
mod run;
mod schedules;
pub(crate) mod settings;
pub(crate) mod stop;
mod tick;
mod watched;
mod worker;

pub(crate) use core::Core;
