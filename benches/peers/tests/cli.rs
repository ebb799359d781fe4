//! The program as its user calls it: help, errors, and a small run from end to end.

use std::process::{Command, Output};

/// Runs the program with `args`.
fn peers(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(args)
        .output()
        .expect("the program can be run")
}

#[test]
fn help_names_every_option_and_candidate() {
    let output = peers(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8_lossy(&output.stdout);
    for word in [
        "--quick",
        "--scenario",
        "--candidate",
        "--keys",
        "--producers",
        "--workers",
        "--rounds",
        "--json",
        "mass_expiry",
        "hash_wheel",
        "naive",
    ] {
        assert!(help.contains(word), "{word}");
    }
    assert!(help.lines().all(|line| line.len() <= 120));
}

#[test]
fn bad_arguments_are_told_and_end_with_2() {
    for args in [
        &["--keys", "none"][..],
        &["--scenario", "beet"],
        &["--fast"],
    ] {
        let output = peers(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            error.starts_with("peers: ") && error.contains("--help"),
            "{error}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_file_that_cannot_be_written_ends_with_1() {
    let output = peers(&["--json", "not/there.json"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("peers: not/there.json: "), "{error}");
}

#[test]
fn a_small_run_prints_the_table_and_writes_rows() {
    let folder = std::env::temp_dir().join(format!("peers-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let json = folder.join("rows.json");
    let json = json.to_str().expect("the path is text");
    let output = peers(&[
        "--quick",
        "--scenario",
        "memory,handle",
        "--candidate",
        "liveness,dashmap",
        "--keys",
        "2k",
        "--rounds",
        "1",
        "--json",
        json,
    ]);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{table}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for word in [
        "memory, 2,000 keys",
        "handle, 2,000 keys",
        "x ours",
        "ours over floor",
        "dashmap",
    ] {
        assert!(table.contains(word), "{word}\n{table}");
    }
    let text = std::fs::read_to_string(json).expect("it was written");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("it is an array");
    assert_eq!(rows.len(), 2 + 3 * 2);
    let ours = rows
        .iter()
        .find(|row| row["candidate"] == "liveness" && row["metric"] == "bytes_per_key");
    let ours = ours.expect("ours was measured");
    assert_eq!(
        (&ours["scenario"], &ours["keys"]),
        (&"memory".into(), &2_000.into())
    );
    assert!(ours["value"].as_f64() > Some(0.0) && ours["ratio_to_ours"] == 1.0);

    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}
