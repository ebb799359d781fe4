//! Single protocols under every order of their steps that a weak memory model allows. Loom runs a model until no order
//! is left.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib orderings`. Models have two or three threads and a few steps
//! each. Larger models belong to the random schedules of `cfg(shuttle)`.

mod heart_cell;
mod inbox;

/// Explores all executions of `model` in which threads are preempted at most `interruptions` times.
fn explore(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(model);
}
