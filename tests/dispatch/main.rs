//! The dispatcher on local threads: what it does with events, handlers, bad input and threads that meet.
//!
//! Time is a manual clock's wherever it matters; threads meet by channels. Every test ends with an account that
//! balances.

#![cfg(feature = "dispatch")]
#![expect(
    clippy::items_after_statements,
    reason = "a topic is declared where it is used"
)]

mod bad_input;
mod calls;
#[path = "../support/conformance/suite.rs"]
mod conformance;
mod conforming;
#[cfg(feature = "cron")]
mod cron;
mod emitting;
mod inspection;
mod kit;
mod order;
mod reentry;
mod removal;
mod retries;
mod scenarios;
mod schedules;
mod sinks;
mod stopping;
mod stress;
mod unique;
