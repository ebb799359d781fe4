//! Exploration of thread schedules and memory orders. Compiled for the explorers' test builds only.

#[cfg(loom)]
mod orderings;
#[cfg(shuttle)]
mod schedules;
