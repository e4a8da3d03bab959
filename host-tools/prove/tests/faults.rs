//! One fault at a time is put into what was rendered: each is found, with a packet that shows it and the rule.

mod common;

use common::{FOOBAR, messages, plan};
use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{IpPrefix, Prefix};
use prove::rack::{firewall, host};
use prove::{Code, Proof, Rack};
use site::Plan;

/// The proof after a change to the rack.
fn faulty(plan: &Plan, change: impl FnOnce(&mut Rack<'_>)) -> Proof {
    let mut rack = Rack::of(plan).expect("a rack");
    change(&mut rack);
    rack.prove()
}

/// Changes the rules of every appliance.
fn rules(rack: &mut Rack<'_>, change: impl Fn(&mut Vec<Rule>)) {
    for appliance in &mut rack.appliances {
        change(&mut appliance.rules);
    }
}

/// Replaces text in a server's firewall, which must be there.
fn edit(rack: &mut Rack<'_>, server: &str, from: &str, to: &str) {
    let plan = rack.plan;
    let index = plan
        .servers
        .iter()
        .position(|one| one.name == server)
        .expect("a server");
    let text = firewall(plan, &plan.servers[index]).expect("a firewall");
    assert!(text.contains(from), "{text}");
    rack.hosts[index] =
        host(plan, &plan.servers[index], &text.replacen(from, to, 1)).expect("a host");
}

fn rule_named<'r>(rules: &'r mut [Rule], name: &str) -> &'r mut Rule {
    rules
        .iter_mut()
        .find(|rule| rule.name == name)
        .expect("a rule")
}

fn only(proof: &Proof, code: Code) {
    let others = proof.findings.iter().filter(|finding| finding.code != code);
    assert_eq!(others.count(), 0, "{}", messages(proof));
    assert!(!proof.findings.is_empty());
}

#[test]
fn a_rule_is_gone() {
    let plan = plan(FOOBAR);
    let proof = faulty(&plan, |rack| {
        rules(rack, |rules| rules.retain(|rule| rule.name != "app-db"))
    });
    only(&proof, Code::Closed);
    assert!(!proof.holds());
    insta::assert_snapshot!(messages(&proof));
}

#[test]
fn a_rule_is_gone_on_one_appliance_only() {
    let plan = plan(FOOBAR);
    let proof = faulty(&plan, |rack| {
        rack.appliances[1]
            .rules
            .retain(|rule| rule.name != "app-db")
    });
    only(&proof, Code::Closed);
    let text = messages(&proof);
    assert!(
        text.contains("app1 does not reach db1 through gw2, though flow `app-db` asks for it"),
        "{text}"
    );
    assert!(!text.contains("through gw1"), "{text}");
}

#[test]
fn a_prefix_is_too_wide() {
    let plan = plan(FOOBAR);
    let proof = faulty(&plan, |rack| {
        rules(rack, |rules| {
            let wide = IpPrefix::V4(Prefix::of([10, 20, 4, 0].into(), 24));
            rule_named(rules, "app-db").destinations = vec![wide];
        });
    });
    // Nobody else is there today, so that it is the appliance alone that is too open.
    only(&proof, Code::TooWide);
    insta::assert_snapshot!(messages(&proof));
}

#[test]
fn a_firewall_has_a_line_too_many() {
    let plan = plan(FOOBAR);
    let proof = faulty(&plan, |rack| {
        edit(
            rack,
            "db1",
            "        counter name \"dropped-in\"\n",
            "        tcp dport 22 accept\n",
        );
    });
    // From anybody by the firewall alone, and from the appliances, which nothing else stops.
    assert!(!proof.holds());
    insta::assert_snapshot!(messages(&proof));
}

#[test]
fn a_port_is_wrong_in_a_firewall() {
    let plan = plan(FOOBAR);
    let proof = faulty(&plan, |rack| {
        edit(rack, "db1", "tcp dport 3306", "tcp dport 3307")
    });
    assert!(!proof.holds());
    insta::assert_snapshot!(messages(&proof));
}

#[test]
fn all_machines_agree_on_too_much() {
    let plan = plan(FOOBAR);
    let proof = faulty(&plan, |rack| {
        rules(rack, |rules| {
            rule_named(rules, "app-db").protocol = Protocol::Tcp(Ports {
                source: Vec::new(),
                destination: vec![3306..=3307],
            })
        });
        edit(rack, "db1", "tcp dport 3306", "tcp dport { 3306, 3307 }");
        edit(rack, "app1", "tcp dport 3306", "tcp dport 3306-3307");
    });
    insta::assert_snapshot!(messages(&proof));
}

#[test]
fn a_service_leads_elsewhere() {
    let plan = plan(FOOBAR);
    let proof = faulty(&plan, |rack| {
        for appliance in &mut rack.appliances {
            appliance.config.services[0].port = 8443;
        }
    });
    insta::assert_snapshot!(messages(&proof));
}

#[test]
fn answers_are_not_let_in() {
    let plan = plan(FOOBAR);
    let proof = faulty(&plan, |rack| {
        edit(rack, "web1", "established : accept, ", "")
    });
    only(&proof, Code::Closed);
    insta::assert_snapshot!(messages(&proof));
}

#[test]
fn untidy_rules_are_warnings() {
    let plan = plan(FOOBAR);
    let proof = faulty(&plan, |rack| {
        rules(rack, |rules| {
            let rule = rule_named(rules, "app-db").clone();
            let called = |name: &str, rule: &Rule| Rule {
                name: name.try_into().expect("a short name"),
                ..rule.clone()
            };
            // Behind the others: all its packets are taken. In front: the next one would do the same.
            rules.push(called("behind", &rule));
            rules.insert(0, called("in-front", &rule));
            // Sources of the web network do not come from the wan, and no ICMP but an echo request opens a flow.
            rules.push(Rule {
                from: Legs::one(0),
                sources: vec![IpPrefix::V4(Prefix::of([10, 20, 2, 0].into(), 24))],
                ..called("from-elsewhere", &rule)
            });
            rules.push(Rule {
                protocol: Protocol::Icmp(vec![3]),
                state: State::New,
                action: Action::Accept,
                ..called("unreachable", &rule)
            });
        });
    });
    assert!(proof.holds(), "{}", messages(&proof));
    insta::assert_snapshot!(messages(&proof));
}
