use super::*;

#[test]
fn a_list_of_errors_stands_on_one_line() {
    let check = |errors: &[&str], expected: &str| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(said(&errors), expected);
    };
    check(&["permission denied"], "permission denied");
    let one = "1 error occurred:\n\t* permission denied\n\n";
    check(&[one], "permission denied");
    let two = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";
    check(&[two, "x"], "permission denied; invalid token; x");
    check(&["a\n\t* b"], "a\n\t* b");
    check(&[], "");
}
