//! What must not compile, and what the compiler says of it: the programs of `ui/`, each with its message.

#[test]
#[ignore = "the messages are those of the oldest compiler that is supported: .ci/run runs this with it"]
fn what_must_not_compile_says_why() {
    trybuild::TestCases::new().compile_fail("tests/it/ui/*.rs");
}
