//! The features for fleets, on real threads and under a clock that the tests move.

#[cfg(feature = "registry")]
#[path = "../support/in_time.rs"]
mod in_time;

#[cfg(feature = "pacemaker")]
mod pacemaker;
#[cfg(feature = "registry")]
mod registry;
