use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_key_file_is_made_for_its_owner_alone_and_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seal.key");
    let root = Secret::new([5; 32]);
    let seal = KeyFileSeal::open_or_create(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let wrapped = seal.wrap(b"context", root.expose()).unwrap();
    let again = KeyFileSeal::open_or_create(&path).unwrap();
    assert_eq!(
        again.unwrap(b"context", &wrapped).unwrap().expose(),
        root.expose()
    );
    assert!(again.unwrap(b"other", &wrapped).is_err());
    assert!(DevSeal::new().unwrap(b"context", &wrapped).is_err());
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seal.key");
    KeyFileSeal::open_or_create(&path).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = KeyFileSeal::open_or_create(&path);
        assert!(matches!(refused, Err(SealError::Mode { .. })), "{mode:o}");
    }
    std::fs::write(&path, "short").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(
        KeyFileSeal::open_or_create(&path),
        Err(SealError::Length { .. })
    ));
}
