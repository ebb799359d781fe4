//! Which file imports which: no circles, imports point down, and features reach only what they may.
//!
//! `cargo test --test project imports -- --nocapture` prints the graph by levels, the leaves last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Modules of this crate, by their paths without `crate::`.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// What features may import besides each other's absence: the public vocabulary and faces, and the ground floor.
const OPEN_TO_FEATURES: [&str; 16] = [
    "callback", "clock", "due", "error", "event", "feed", "local", "log", "options", "panic",
    "sink", "stats", "status", "sync", "wakeup", "watcher",
];

/// The features. None imports another one, unless it is listed here.
const FEATURES: [(&str, &[&str]); 7] = [
    ("client", &["server"]),
    ("dispatch", &[]),
    (
        "observe",
        &[
            "client",
            "dispatch",
            "pacemaker",
            "redis",
            "registry",
            "server",
        ],
    ),
    ("pacemaker", &[]),
    ("redis", &["dispatch"]),
    ("registry", &[]),
    ("server", &[]),
];

/// The modules below `folder`, whose path is `path`, with the text of each up to its tests.
fn modules(folder: &Path, path: &str, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let module = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}::{name}")
        };
        if file.is_dir() {
            modules(&file, &module, into);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            into.insert(module, code.to_owned());
        }
    }
}

/// The paths that the `use` declarations of `code` name, braces resolved one level deep: those that are exported again
/// under the module's own path, or the others.
fn imports(code: &str, exported: bool) -> Vec<String> {
    let mut found = Vec::new();
    for declaration in code.split(';') {
        let Some(start) = declaration.find("use ") else {
            continue;
        };
        let before = declaration[..start]
            .lines()
            .last()
            .unwrap_or_default()
            .trim();
        let is_wanted = if exported {
            before.starts_with("pub")
        } else {
            before.is_empty()
        };
        let path: String = declaration[start + 4..].split_whitespace().collect();
        if !is_wanted || path.contains('"') {
            continue;
        }
        match path.split_once('{') {
            None => found.push(path),
            Some((stem, names)) => {
                let names = names.trim_end_matches('}').split(',');
                found.extend(names.filter(|name| !name.is_empty()).map(|name| {
                    let name = name.trim_end_matches("::self");
                    format!("{stem}{name}")
                }));
            }
        }
    }
    found
}

/// The module that `path`, as it is written in `module`, leads to: the longest part of it that is one, or the child
/// from which that one exports the name.
fn target(path: &str, module: &str, all: &BTreeMap<String, String>) -> Option<String> {
    let parts: Vec<&str> = module.split("::").collect();
    let mut base: Vec<&str> = Vec::new();
    let mut rest = path.split("::").peekable();
    match *rest.peek()? {
        "crate" => {
            rest.next();
        }
        "super" => {
            base = parts;
            while rest.next_if(|part| *part == "super").is_some() {
                base.pop();
            }
        }
        "self" => {
            rest.next();
            base = parts;
        }
        _ => base = parts,
    }
    base.extend(rest.take_while(|part| *part != "self"));
    let mut name = None;
    while !base.is_empty() {
        let candidate = base.join("::");
        if let Some(code) = all.get(&candidate) {
            let exports = imports(code, true).into_iter();
            let source = exports
                .filter(|export| name.is_some() && export.rsplit("::").next() == name)
                .find_map(|export| {
                    all.get_key_value(&format!("{candidate}::{}", export.split_once("::")?.0))
                });
            let found = source.map_or(candidate, |(child, _)| child.clone());
            return (found != module).then_some(found);
        }
        name = base.pop();
    }
    None
}

/// The graph of the library's own modules, tests and models left out.
fn graph() -> Graph {
    let mut all = BTreeMap::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    modules(&src, "", &mut all);
    all.retain(|module, _| {
        let is_test = module.split("::").any(|part| part == "tests");
        !is_test && module != "lib" && !module.starts_with("models")
    });
    let edges = all.iter().map(|(module, code)| {
        let targets = imports(code, false).into_iter();
        let targets = targets.filter_map(|path| target(&path, module, &all));
        (module.clone(), targets.collect())
    });
    edges.collect()
}

/// The level of each module: a leaf has level 1, every other one more than the highest that it imports. Panics if there
/// is a circle.
fn levels(graph: &Graph) -> BTreeMap<&str, usize> {
    fn level<'a>(
        module: &'a str,
        graph: &'a Graph,
        known: &mut BTreeMap<&'a str, usize>,
        way: &mut Vec<&'a str>,
    ) -> usize {
        if let Some(&level) = known.get(module) {
            return level;
        }
        assert!(
            !way.contains(&module),
            "a circle of imports: {} -> {module}",
            way.join(" -> ")
        );
        way.push(module);
        let below = graph[module].iter();
        let highest = below.map(|target| level(target, graph, known, way)).max();
        way.pop();
        known.insert(module, highest.unwrap_or(0) + 1);
        known[module]
    }
    let mut known = BTreeMap::new();
    for module in graph.keys() {
        level(module, graph, &mut known, &mut Vec::new());
    }
    known
}

#[test]
fn imports_have_no_circles_and_few_levels() {
    let graph = graph();
    let levels = levels(&graph);
    let highest = levels.values().max().copied().unwrap_or(0);
    for level in (1..=highest).rev() {
        let modules = levels.iter().filter(|(_, it)| **it == level);
        let modules: Vec<&str> = modules.map(|(module, _)| *module).collect();
        println!("{level:2}  {}", modules.join("  "));
    }
    for face in ["local", "watcher"] {
        assert!(levels[face] <= 9, "{face} is on level {}", levels[face]);
    }
}

#[test]
fn features_stand_beside_each_other_on_the_public_core() {
    for (module, targets) in graph() {
        let wing = |path: &str| path.split("::").next().unwrap_or_default().to_owned();
        let Some((feature, others)) = FEATURES
            .into_iter()
            .find(|(name, _)| *name == wing(&module))
        else {
            for target in &targets {
                let is_feature = FEATURES.iter().any(|(name, _)| *name == wing(target));
                assert!(!is_feature, "the core's {module} imports {target}");
            }
            continue;
        };
        for target in &targets {
            let wing = wing(target);
            let is_open = wing == feature
                || others.contains(&wing.as_str())
                || OPEN_TO_FEATURES.contains(&target.as_str())
                || wing == "sync";
            assert!(is_open, "{module} imports {target}");
        }
    }
}
