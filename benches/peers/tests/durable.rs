//! The program that measures durable dispatch, as its user calls it.

use std::process::{Command, Output};

/// Runs the program with `args`.
fn durable(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_durable"))
        .args(args)
        .output()
        .expect("the program can be run")
}

#[test]
fn help_names_options_scenarios_and_candidates() {
    let output = durable(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8_lossy(&output.stdout);
    for word in [
        "--quick",
        "--peer-events",
        "npm ci",
        "drain",
        "bullmq_rust",
        "floor_move_200",
    ] {
        assert!(help.contains(word), "{word}");
    }
    assert!(help.lines().all(|line| line.len() <= 120));
}

#[test]
fn wrong_arguments_end_with_2() {
    for args in [
        &["--scenario", "emits"][..],
        &["--rounds", "0"],
        &["--fast"],
    ] {
        let output = durable(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_small_run_counts_what_was_emitted_and_drained() {
    let file = std::env::temp_dir().join(format!("durable-{}.json", std::process::id()));
    let path = file.to_str().expect("the path is text");
    let output = durable(&[
        "--scenario",
        "emit_many,drain",
        "--candidate",
        "bullmq_rust,apalis,floor_move_200,floor_set_p100",
        "--fsync",
        "everysec",
        "--events",
        "4000",
        "--peer-events",
        "2000",
        "--rounds",
        "1",
        "--json",
        path,
    ]);
    let report = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}{complaints}");
    // A note is about events that are missing, repeated, or still there.
    assert!(!report.contains("Notes:"), "{report}");
    assert!(report.contains("drain of no-ops, 8 at once, appendfsync everysec"));
    let text = std::fs::read_to_string(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it can be removed");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("it is an array");
    let rates = rows.iter().filter(|row| row["metric"] == "events_per_s");
    let rates: Vec<_> = rates.filter_map(|row| row["value"].as_f64()).collect();
    // Three of `emit_many`, three of `drain` with 1 and with 8 at once, two with 100.
    assert_eq!(rates.len(), 3 + 2 * 3 + 2, "{report}");
    assert!(rates.iter().all(|rate| *rate > 0.0));
}
