//! The behaviour that every dispatcher promises, as tests that a dispatcher's own test binary runs.
//!
//! A binary includes this file as its module `conformance`, and declares the tests by [`suite`]. The tests run on a
//! real clock, because a store has its own: nothing starts early, and upper bounds are generous. Each test has a topic
//! of its own, so they may share a store.

pub(crate) mod accounts;
pub(crate) mod emitting;
pub(crate) mod inspection;
pub(crate) mod kit;
pub(crate) mod limits;
pub(crate) mod retries;
pub(crate) mod stopping;
pub(crate) mod unique;

/// Declares one test for each behaviour. `$make` is a function that returns a value that implements
/// [`Make`](kit::Make), or `None` if the tests cannot run here.
macro_rules! suite {
    ($make:path) => {
        $crate::conformance::tests! { $make;
            accounts {
                every_event_ends_once_whatever_its_handler_does,
                events_of_many_producers_are_each_handled_once,
            }
            emitting {
                an_event_is_handled_at_once_by_all_handlers_in_their_order,
                no_delayed_event_starts_early,
                an_event_that_is_due_at_a_time_starts_then_and_one_in_the_past_at_once,
                with_parallel_one_events_start_by_due_time_then_in_the_order_they_were_emitted,
                headers_arrive_in_their_order,
                text_of_any_kind_arrives_as_it_is,
                many_events_have_ids_in_their_order,
                each_chunk_of_many_events_is_accepted_as_a_whole_or_not_at_all,
                an_event_above_the_maximum_comes_back_and_is_accepted_when_one_has_ended,
                a_handler_may_emit_events_of_its_own_topic,
                an_event_is_emitted_to_several_dispatchers,
            }
            inspection {
                an_event_that_waits_is_cancelled_and_does_not_start,
                the_call_of_a_running_event_that_is_cancelled_is_to_end_and_its_outcome_is_ignored,
                a_dead_event_is_cancelled_and_an_unknown_one_is_not,
                an_event_that_waits_is_rescheduled_earlier_and_later,
                a_paused_topic_starts_no_event_until_it_is_resumed,
                peek_shows_what_waits_in_its_order,
                counts_are_those_of_each_state,
            }
            limits {
                at_most_so_many_events_of_a_topic_run,
                starts_are_spaced_by_the_rate,
                a_call_over_its_time_is_to_end_and_may_still_succeed,
                a_call_over_its_time_that_fails_is_a_failed_attempt,
                a_handler_that_is_removed_is_not_called_again_and_leaves_the_events,
                remove_waits_for_the_running_call,
                a_handler_that_is_registered_later_is_called_for_events_that_wait,
                a_second_handler_of_the_same_name_is_refused,
            }
            retries {
                a_failure_is_tried_again_after_the_backoff,
                retry_in_waits_for_its_own_delay,
                attempts_are_used_up_then_the_event_is_dead_and_can_be_replayed,
                a_fatal_failure_is_not_tried_again,
                a_panic_is_a_failed_attempt,
                a_snooze_does_not_count_as_an_attempt,
                only_the_handlers_that_failed_are_called_again,
                a_handler_that_is_removed_before_its_next_attempt_has_failed,
                a_replay_calls_only_the_handlers_that_failed,
                the_dead_list_shows_the_oldest_first_and_is_replayed_in_part,
                the_dead_list_is_purged,
                a_dead_event_above_the_maximum_replaces_the_oldest_one,
            }
            stopping {
                a_stopped_dispatcher_refuses_everything,
                a_stop_waits_for_the_running_call,
                a_stop_interrupts_a_call_that_looks,
            }
            unique {
                a_second_event_with_a_key_is_refused,
                a_second_event_with_a_key_is_dropped_if_the_first_is_kept,
                a_second_event_with_a_key_replaces_one_that_waits_and_no_other,
                a_key_is_free_when_its_event_is_done_dead_or_cancelled_and_not_between_attempts,
                of_many_racing_emits_with_one_key_one_is_accepted,
            }
        }
    };
}

/// Declares the tests of each module.
macro_rules! tests {
    ($make:path; $($module:ident { $($test:ident,)* })*) => {
        $(mod $module {
            $(#[test]
            fn $test() {
                if let Some(make) = $make() {
                    $crate::conformance::$module::$test(&make);
                }
            })*
        })*
    };
}

pub(crate) use {suite, tests};
