// Replays what fuzzing has kept: each crate with targets includes this file in its unit tests.

use std::path::Path;

#[test]
fn each_case_of_each_corpus_passes() {
    for (name, run) in super::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let folder = folder.join(name);
        let cases = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("target `{name}` has no corpus: {error}"));
        let mut replayed = 0;
        for case in cases {
            let path = case.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            // Shown only if the case fails.
            println!("replaying {}", path.display());
            run(&bytes);
            replayed += 1;
        }
        assert!(replayed > 0, "the corpus of target `{name}` is empty");
    }
}
