use anyhow::Context;

use super::*;

fn refused(status: u16, error: &str) -> anyhow::Error {
    let errors = vec![error.to_owned()];
    anyhow::Error::new(ClientError::Refused { status, errors })
}

#[test]
fn a_failure_is_found_wherever_it_was_said() {
    let failure = || Failure::new(Exit::Unreachable, "not up").hint("bring it up");
    let cause = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let as_context = anyhow::Error::new(cause()).context(failure());
    let below_context = Err::<(), _>(failure())
        .context("while looking")
        .unwrap_err();
    let below_both = anyhow::Error::new(cause())
        .context(failure())
        .context("while looking");
    for error in [as_context, below_context, below_both] {
        assert_eq!(exit_of(&error), Exit::Unreachable, "{error:?}");
        let hint = failure_in(&error).and_then(|failure| failure.hint.as_deref());
        assert_eq!(hint, Some("bring it up"));
    }
    assert_eq!(exit_of(&anyhow::Error::new(cause())), Exit::Failed);
}

#[test]
fn what_the_control_plane_answers_is_told_by_the_code() {
    let code = |status, error| exit_of(&refused(status, error).context("could not print"));
    assert_eq!(code(403, "permission denied"), Exit::Refused);
    assert_eq!(code(409, "exists"), Exit::Conflict);
    assert_eq!(code(503, "Vault is sealed"), Exit::Sealed);
    assert_eq!(code(503, "the agent is starting or ending"), Exit::Failed);
    assert_eq!(code(500, "internal error"), Exit::Failed);
    let nobody = anyhow::Error::new(ClientError::Unreachable(Vec::new()));
    assert_eq!(exit_of(&nobody), Exit::Unreachable);
}

#[test]
fn who_is_refused_is_told_what_to_type() {
    let hint = |error| hint_of(&refused(403, error).context("could not read it"));
    let denied = "1 error occurred:\n\t* permission denied\n\n";
    assert!(hint(denied).unwrap().contains("bastide policy check --as"));
    assert!(hint("permission denied").unwrap().contains("bastide login"));
    assert_eq!(hint("only nodes can ask this"), None);
    let own = refused(403, denied).context(Failure::new(Exit::Refused, "no").hint("this"));
    assert_eq!(hint_of(&own).as_deref(), Some("this"));
}
