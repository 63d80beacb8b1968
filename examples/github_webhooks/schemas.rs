//! GitHub's published schemas, compiled once.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use jsonschema::{Draft, Registry, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::{Value, json};

/// A validator for each type of webhook.
pub(crate) struct Schemas(HashMap<String, Validator>);

impl Schemas {
    /// Compiles the definitions `NAME_event` and `NAME$event` of the published schema. String formats are not asserted.
    pub(crate) fn compile(schema: &Value) -> Result<Self> {
        const URI: &str = "urn:octokit:webhooks";
        let registry = Registry::new().add(URI, schema)?.prepare()?;
        let options =
            jsonschema::options().with_draft(Draft::Draft7).with_registry(&registry).should_validate_formats(false);
        let definitions = schema["definitions"].as_object().context("the schema has no `definitions`")?;
        let mut validators = HashMap::new();
        for definition in definitions.keys() {
            let Some(name) = definition.strip_suffix("_event").or_else(|| definition.strip_suffix("$event")) else {
                continue;
            };
            let reference = json!({ "$ref": format!("{URI}#/definitions/{definition}") });
            validators.insert(name.to_owned(), options.build(&reference)?);
        }
        Ok(Self(validators))
    }

    /// Says where a payload breaks its schema, and how.
    pub(crate) fn check(&self, name: &str, payload: &Value) -> Result<(), String> {
        let validator = self.0.get(name).ok_or_else(|| format!("there is no schema for `{name}`"))?;
        validator.validate(payload).map_err(|error| reason(&error))
    }
}

/// The error that a reader can mend: for a choice, the first one of the branch that is meant for this action.
fn reason(error: &ValidationError<'_>) -> String {
    let nearest = branches(error)
        .and_then(|branches| branches.iter().min_by_key(|branch| (branch.iter().any(is_other_action), branch.len())));
    nearest.and_then(|branch| branch.first()).map_or_else(|| plain(error), reason)
}

/// Whether the error only says that its branch is meant for another action.
fn is_other_action(error: &ValidationError<'_>) -> bool {
    branches(error).map_or_else(
        || error.instance_path().as_str() == "/action",
        |branches| branches.iter().all(|branch| branch.iter().any(is_other_action)),
    )
}

fn branches<'a>(error: &'a ValidationError<'_>) -> Option<&'a [Vec<ValidationError<'static>>]> {
    match error.kind() {
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => Some(context),
        _ => None,
    }
}

fn plain(error: &ValidationError<'_>) -> String {
    format!("at `{}`: {}", error.instance_path(), error.masked())
}
