//! What pages say of the code that the compiler does not see.

use std::fs;
use std::path::Path;

/// The text of all Rust files below `folder`.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn every_test_that_the_pages_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests", "examples"].map(|folder| sources(&root.join(folder)));
    let sources = folders.concat();
    let is_name = |word: &&str| {
        let is_plain = word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        is_plain && word.matches('_').count() >= 3
    };
    for (page, least) in [
        ("promises", 30),
        ("lab", 30),
        ("dispatch", 60),
        ("redis", 20),
    ] {
        let page = format!("docs/{page}.md");
        let text = fs::read_to_string(root.join(&page)).unwrap();
        let names: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_name).collect();
        assert!(names.len() > least, "{page}: only {} names", names.len());
        for name in names {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "{page}: no test is called {name}"
            );
        }
    }
}
