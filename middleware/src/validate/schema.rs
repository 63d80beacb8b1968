use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use jsonschema::Validator;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Invalid, Violation};
use super::rule::Rule;
use crate::{SettingError, SettingsError};

/// The rule of a JSON Schema. Formats (`date-time`, `uri`) are asserted; references to the network or to files are not
/// followed. Clones share the compiled schema.
#[derive(Clone)]
pub struct Schema {
    validator: Arc<Validator>,
}

impl Schema {
    /// Compiles `schema`.
    ///
    /// # Errors
    /// A schema that is not one, or that refers to what is not in it.
    pub fn new(schema: &Value) -> Result<Self, SettingsError> {
        let validator = Validator::options().should_validate_formats(true).build(schema);
        let refused = |error: jsonschema::ValidationError<'_>| SettingError::new("schema", error.to_string());
        validator.map(|validator| Self { validator: Arc::new(validator) }).map_err(|error| refused(error).into())
    }

    /// The same rule; the service then gets a `T`, by serde.
    #[must_use]
    pub fn into<T: DeserializeOwned>(self) -> SchemaInto<T> {
        SchemaInto { schema: self, parsed: PhantomData }
    }

    /// Checks a value, for a rule of your own: where the request is more than its JSON, as an engine's delivery is.
    ///
    /// # Errors
    /// Every violation, with its path.
    pub fn check(&self, value: &Value) -> Result<(), Invalid> {
        let errors = self.validator.iter_errors(value);
        Invalid::collect(errors.map(|error| Violation::new(error.instance_path().to_string(), &error)))
    }
}

impl Rule<Value> for Schema {
    type Parsed = Value;

    fn apply(&self, request: Value) -> Result<Value, Invalid> {
        self.check(&request).map(|()| request)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

/// The rule that [`Schema::into`] makes.
pub struct SchemaInto<T> {
    schema: Schema,
    parsed: PhantomData<fn() -> T>,
}

impl<T> Clone for SchemaInto<T> {
    fn clone(&self) -> Self {
        Self { schema: self.schema.clone(), parsed: PhantomData }
    }
}

impl<T> fmt::Debug for SchemaInto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaInto").finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Rule<Value> for SchemaInto<T> {
    type Parsed = T;

    fn apply(&self, request: Value) -> Result<T, Invalid> {
        self.schema.check(&request)?;
        serde_json::from_value(request).map_err(|error| Invalid::at("", error))
    }
}
