//! What the texts of the scripts have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::CLOCK;

/// Commands that visit everything that is stored, or have no bound.
const ENDLESS: [&str; 7] = [
    "KEYS", "SCAN", "LREM", "SMEMBERS", "HGETALL", "HVALS", "HKEYS",
];

/// Commands that write.
const WRITES: [&str; 8] = [
    "HDEL",
    "HINCRBY",
    "HSET",
    "RPUSH",
    "ZADD",
    "ZINCRBY",
    "ZREM",
    "ZREMRANGEBYRANK",
];

/// The scripts of the dispatcher by name. Those of the shared watch are parts of one text, and have tests of their own.
fn scripts() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/redis/scripts");
    let entries = fs::read_dir(folder).unwrap();
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    };
    let scripts = entries.map(read);
    scripts
        .filter(|(name, _)| !name.starts_with("watch_"))
        .collect()
}

/// The script without comments.
fn code(text: &str) -> String {
    let line = |line: &str| line.split("--").next().unwrap().to_owned() + "\n";
    text.lines().map(line).collect()
}

/// The calls of a script, each as its command and its first argument.
fn calls(code: &str) -> Vec<(usize, String, String)> {
    let call = |(at, _): (usize, &str)| {
        let inside = &code[at..];
        let inside = &inside[inside.find('(').unwrap() + 1..];
        let mut words = inside.split([',', ')', '(']).map(str::trim);
        let command = words.next().unwrap().trim_matches('\'').to_owned();
        (at, command, words.next().unwrap_or_default().to_owned())
    };
    let starts = code
        .match_indices("redis.call")
        .chain(code.match_indices("redis.pcall"));
    starts.map(call).collect()
}

/// The script without its functions, which are written above what calls them.
fn without_functions(code: &str) -> String {
    let mut parts = code.split("\nlocal function");
    let first = parts.next().unwrap().to_owned();
    let rest = parts.map(|part| part.split_once("\nend").unwrap().1);
    first + "\n" + &rest.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_script_says_what_it_does_needs_returns_and_costs() {
    for (name, text) in scripts() {
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("#!lua"), "{name}");
        let head: Vec<&str> = lines.take_while(|line| line.starts_with("--")).collect();
        assert!(head[0].len() > 20, "{name} does not say what it does");
        for part in ["KEYS ", "Reply ", "Cost "] {
            let line = head
                .iter()
                .find(|line| line.starts_with(&format!("-- {part}")));
            assert!(line.is_some_and(|line| line.len() > 10), "{name}: {part}");
        }
        let takes = text.contains("ARGV[") || text.contains("(ARGV)");
        let says = head.iter().any(|line| line.starts_with("-- ARGV "));
        assert_eq!(says, takes, "{name}: ARGV");
    }
}

/// All keys of a topic are on one node of a cluster, and a script must declare those that it uses.
#[test]
fn scripts_use_declared_keys_and_no_endless_command() {
    for (name, text) in scripts() {
        let code = code(&text);
        let keys: BTreeSet<&str> = code
            .lines()
            .filter_map(|line| line.strip_prefix("local ")?.strip_suffix(" = unpack(KEYS)"))
            .flat_map(|names| names.split(", "))
            .collect();
        for (_, command, key) in calls(&code) {
            assert!(
                command.chars().all(|letter| letter.is_ascii_uppercase()),
                "{name}: {command}"
            );
            assert!(!ENDLESS.contains(&&*command), "{name}: {command}");
            assert!(
                command == "TIME" || keys.contains(&*key),
                "{name}: {command} {key}"
            );
        }
        // A second binding of the name of a key would hide the key.
        for key in keys {
            let binds = |line: &&str| {
                let line = line.trim();
                let names = line.strip_prefix("local ").or(line.strip_prefix("for "));
                let names = names.and_then(|rest| rest.split(" = ").next()?.split(" in ").next());
                names.is_some_and(|names| names.split(", ").any(|name| name == key))
            };
            let count = code.lines().filter(binds).count();
            assert_eq!(count, 1, "{name} binds `{key}` again");
        }
        let reads = text
            .lines()
            .filter(|line| line.contains("redis.call('TIME')"));
        let reads: Vec<&str> = reads.collect();
        assert!(reads.len() < 2, "{name}");
        assert!(
            reads.iter().all(|line| line.starts_with(CLOCK)),
            "{name}: {reads:?}"
        );
    }
}

/// A script that ends in the middle leaves half of its effects.
#[test]
fn scripts_refuse_before_they_write() {
    for (name, text) in scripts() {
        let code = without_functions(&code(&text));
        let writes = calls(&code).into_iter();
        let writes = writes.filter(|(_, command, _)| WRITES.contains(&&**command));
        let Some(first) = writes.map(|(at, ..)| at).min() else {
            assert!(text.starts_with("#!lua flags=no-writes"), "{name}");
            continue;
        };
        // The others write in a loop over ids, which may be any texts.
        if ["emit", "work"].contains(&&*name) {
            assert!(
                !code[first..].contains("ARGV"),
                "{name} reads arguments too late"
            );
        }
        for refusal in ["error(", "error_reply", "'OLD'", "'D' ..", "= 'F'"] {
            let last = code.rfind(refusal);
            assert!(last.is_none_or(|last| last < first), "{name}: {refusal}");
        }
        // What a hand set to something else than a number makes these commands fail.
        for command in ["HINCRBY", "ZINCRBY"] {
            assert!(!code.contains(command), "{name}: {command}");
        }
    }
}

#[test]
fn the_permissions_that_scripts_need_are_checked_and_documented() {
    let builder = include_str!("../../builder.rs");
    let listed = builder.split("const COMMANDS").nth(1).unwrap();
    let listed = listed.split(';').nth(1).unwrap();
    let listed: BTreeSet<&str> = listed.split('"').skip(1).step_by(2).collect();
    let mut used = BTreeSet::new();
    for text in scripts().values() {
        used.extend(
            calls(&code(text))
                .into_iter()
                .map(|(_, command, _)| command),
        );
    }
    let page = include_str!("../../../../docs/redis.md");
    for command in &used {
        assert!(listed.contains(&**command), "{command} is not checked");
        let granted = format!("+{} ", command.to_lowercase());
        assert!(
            page.contains(&granted),
            "{granted}is not in the documentation"
        );
    }
}
