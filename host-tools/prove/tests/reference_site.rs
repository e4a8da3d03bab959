//! The reference site lets through what its file asks for, and nothing else.

mod common;

use common::{FOOBAR, messages, plan, proof};

#[test]
fn the_reference_site_is_proved() {
    let proof = proof(&plan(FOOBAR));
    assert!(proof.findings.is_empty(), "{}", messages(&proof));
    insta::assert_snapshot!("matrix", common::matrix(&proof));
}

#[test]
fn the_dual_stack_site_is_proved() {
    let proof = proof(&plan(include_str!("../../../examples/dualstack/site.toml")));
    assert!(proof.holds(), "{}", messages(&proof));
    insta::assert_snapshot!(
        "dualstack",
        format!("{}\n{}", common::matrix(&proof), messages(&proof))
    );
}
