use super::*;

#[test]
fn whatever_is_revoked_can_be_taken_off_the_list() {
    let mut trial = begin();
    for id in ["ada", &"k".repeat(512)] {
        let added = trial.write("ssh/revoke", json!({ "key_id": id }));
        let listed = trial.root(Operation::List, "ssh/revoked", json!({}));
        let listed = listed.unwrap();
        assert_eq!(listed["keys"], json!([added["id"]]));
        let shown = &listed["key_info"][added["id"].as_str().unwrap()];
        assert_eq!(shown["key_id"], id);
        let path = format!("ssh/revoked/{}", added["id"].as_str().unwrap());
        trial.root(Operation::Delete, &path, json!({})).unwrap();
        let listed = trial.root(Operation::List, "ssh/revoked", json!({}));
        assert!(matches!(listed, Err(Refusal::Absent)), "{listed:?}");
    }
}
