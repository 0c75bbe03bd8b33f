use super::*;

const SUM: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn check(text: &str, expect: Option<&str>) {
    let text = text.replace("SUM", SUM);
    let document = Document::read(text.as_bytes());
    assert_eq!(
        document.as_ref().map(Document::media_type),
        expect,
        "{text}"
    );
}

#[test]
fn a_document_is_a_manifest_or_an_index_and_never_both() {
    let config = r#""config":{"mediaType":"x","digest":"SUM","size":1}"#;
    let manifests = r#""manifests":[{"mediaType":"x","digest":"SUM","size":1}]"#;
    check(
        &format!(r#"{{"schemaVersion":2,{config},"layers":[]}}"#),
        Some(OCI_MANIFEST),
    );
    check(
        &format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}",{config},"layers":[]}}"#),
        Some(DOCKER_MANIFEST),
    );
    check(
        &format!(r#"{{"schemaVersion":2,{manifests}}}"#),
        Some(OCI_INDEX),
    );
    check(
        &format!(r#"{{"schemaVersion":2,{manifests},{config},"layers":[]}}"#),
        None,
    );
    check(
        &format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}",{config},"layers":[]}}"#),
        None,
    );
    check(
        &format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",{manifests}}}"#),
        None,
    );
    check(&format!(r#"{{"schemaVersion":1,{manifests}}}"#), None);
    check(&format!(r#"{{"schemaVersion":2,{config}}}"#), None);
    check(
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"md5:0","size":1}]}"#,
        None,
    );
    check("", None);
    check("[]", None);
}

#[test]
fn more_layers_than_an_engine_takes_are_refused() {
    let layer = r#"{"mediaType":"x","digest":"SUM","size":1}"#;
    let manifest = |count: usize| {
        let layers = vec![layer; count].join(",");
        format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[{layers}]}}"#)
    };
    check(&manifest(LAYERS_MAX), Some(OCI_MANIFEST));
    check(&manifest(LAYERS_MAX + 1), None);
}
