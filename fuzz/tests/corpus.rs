//! Replays the corpus on a stable compiler, so that neither the machine nor the corpus rots.

use std::fs;
use std::path::Path;

#[test]
fn every_input_of_the_corpus_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/local");
    let (mut count, mut operations) = (0, 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        operations += liveness_fuzz::run(&fs::read(&path).unwrap());
        count += 1;
    }
    println!("{operations} operations");
    assert!(count > 20, "{count} inputs in {}", folder.display());
    assert!(operations > count * 5, "{operations} operations");
}
