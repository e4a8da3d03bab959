//! Templates live beside the data of the role they belong to, in `image/`.

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// Every template as (path in `image/`, text).
        pub(crate) const TEMPLATES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../image/", $name)))),*];
    };
}

templates![
    "base/templates/nftables.conf",
    "base/templates/rsyslog.conf",
    "base/templates/sshd_config",
    "roles/haproxy/templates/haproxy.cfg",
    "roles/nginx/templates/nginx.conf",
    "roles/app/templates/haproxy.cfg",
    "roles/db/templates/ravelin.cnf",
    "roles/db/templates/init.sql",
    "roles/monitor/templates/prometheus.yml",
    "roles/monitor/templates/rules.yml",
    "roles/monitor/templates/alertmanager.yml",
    "roles/monitor/templates/blackbox.yml",
    "roles/monitor/templates/nginx.conf",
];

/// The text of a template with its values filled in. A value that a template asks for and `values`
/// does not have is an error.
pub(crate) fn fill(name: &str, values: Value) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    for (name, text) in TEMPLATES {
        environment.add_template(name, text)?;
    }
    environment.get_template(name)?.render(values)
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    #[test]
    fn a_missing_value_is_an_error_and_not_an_empty_string() {
        let error = fill("roles/db/templates/ravelin.cnf", context! { port => 3306 }).unwrap_err();
        assert_eq!(error.kind(), minijinja::ErrorKind::UndefinedError);
    }

    #[test]
    fn every_template_parses() {
        let error = fill("no such template", context! {}).unwrap_err();
        assert_eq!(error.kind(), minijinja::ErrorKind::TemplateNotFound);
    }
}
