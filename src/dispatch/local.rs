//! The dispatcher on local threads: one lock around the plan, and the workers that meet there.
//!
//! `docs/dispatch.md` has the protocol of the lock: who sleeps where, who wakes whom, and the races.

mod admin;
mod core;
mod crew;
mod entry;
mod handlers;
mod monitor;
mod schedules;
pub(crate) mod settings;
pub(crate) mod stop;
mod tick;
mod watched;
mod worker;

pub(crate) use core::Core;
