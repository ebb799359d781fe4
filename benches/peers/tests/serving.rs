//! The program that measures servers, as its user calls it.

use std::process::{Command, Output};

/// Runs the program with `args`.
fn serving(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_serving"))
        .args(args)
        .output()
        .expect("the program can be run")
}

#[test]
fn help_names_options_scenarios_and_candidates() {
    let output = serving(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8_lossy(&output.stdout);
    for word in [
        "--quick",
        "npm ci",
        "silence_of_all",
        "ws_strand",
        "node_ws",
    ] {
        assert!(help.contains(word), "{word}");
    }
    assert!(help.lines().all(|line| line.len() <= 120));
}

#[test]
fn wrong_arguments_end_with_2() {
    for args in [
        &["--scenario", "echoes"][..],
        &["--rounds", "0"],
        &["--fast"],
    ] {
        let output = serving(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_small_run_has_a_row_for_everything_and_no_note() {
    let file = std::env::temp_dir().join(format!("serving-{}.json", std::process::id()));
    let path = file.to_str().expect("the path is text");
    let output = serving(&[
        "--quick",
        "--scenario",
        "echo,connect,memory,broadcast,silence",
        "--candidate",
        "floor,tcp_inline,ws_inline,ws_strand,tungstenite_tuned",
        "--connections",
        "100",
        "--json",
        path,
    ]);
    let report = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}{complaints}");
    // A note is about peers that were dropped early, wrongly, or not at all.
    assert!(!report.contains("Notes:"), "{report}");
    let text = std::fs::read_to_string(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it can be removed");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("it is an array");
    let of = |metric: &str| {
        let rows = rows.iter().filter(|row| row["metric"] == metric);
        rows.filter_map(|row| row["value"].as_f64()).count()
    };
    assert_eq!(of("messages_per_s"), 4 * 5, "{report}");
    assert_eq!(of("connects_per_s"), 2 * 2, "{report}");
    assert_eq!((of("idle_bytes"), of("last_byte_ms")), (3, 2), "{report}");
    assert_eq!(of("late_max_ms"), 1, "{report}");
}
