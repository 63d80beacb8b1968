//! Reads `#[event(..)]`: text in, settings or all its errors out. Knows nothing of the type that carries it.

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Expr, ExprPath, Lit, LitStr, Meta, Path, Token, parse_quote};

use crate::name;

const ALLOWED: &str = "allowed are `name`, `version`, `key`, `priority`, `upgrade` and `crate`";

/// What the attributes of one type say; `None` where they say nothing.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<u32>,
    pub(crate) key: Option<LitStr>,
    priority: Option<Ident>,
    pub(crate) upgrade: Option<ExprPath>,
    krate: Option<Path>,
    given: Vec<String>,
}

/// Collects errors, so that all are told at once.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            none => *none = Some(error),
        }
    }

    pub(crate) fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    pub(crate) fn finish(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

impl Attributes {
    /// Reads every `#[event(..)]` among `attrs`; what has an error stays `None`.
    pub(crate) fn read(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut read = Self::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("event")) {
            for meta in errors.keep(list(attr)).into_iter().flatten() {
                let name = spoken(meta.path());
                if read.gives(&name) {
                    errors.push(Error::new_spanned(meta.path(), format!("duplicate attribute `{name}`: give it once")));
                    continue;
                }
                errors.keep(read.set(&name, &meta));
                read.given.push(name);
            }
        }
        read
    }

    fn set(&mut self, attribute: &str, meta: &Meta) -> syn::Result<()> {
        match attribute {
            "name" => self.name = Some(event_name(meta)?),
            "version" => self.version = Some(version(meta)?),
            "key" => self.key = Some(text(meta, "key = \"order_id\"")?),
            "priority" => self.priority = Some(priority(meta)?),
            "upgrade" => self.upgrade = Some(path(meta, "upgrade = \"path::to::function\"", "a function")?),
            "crate" => self.krate = Some(path(meta, "crate = \"::millstream\"", "the crate")?),
            _ => {
                let message = format!("unknown attribute `{attribute}`: {ALLOWED}");
                return Err(Error::new_spanned(meta.path(), message));
            }
        }
        Ok(())
    }

    /// Whether `attribute` was given, even with an error in it.
    pub(crate) fn gives(&self, attribute: &str) -> bool {
        self.given.iter().any(|given| given == attribute)
    }

    /// Where the generated code finds millstream.
    pub(crate) fn krate(&self) -> Path {
        self.krate.clone().unwrap_or_else(|| parse_quote!(::millstream))
    }

    pub(crate) fn priority(&self) -> Ident {
        self.priority.clone().unwrap_or_else(|| Ident::new("Normal", Span::call_site()))
    }
}

fn list(attr: &Attribute) -> syn::Result<Punctuated<Meta, Token![,]>> {
    let Meta::List(_) = &attr.meta else {
        return Err(Error::new_spanned(attr, format!("`#[event(..)]` takes a list in parentheses: {ALLOWED}")));
    };
    attr.parse_args_with(Punctuated::parse_terminated)
}

fn spoken(path: &Path) -> String {
    let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
    segments.join("::")
}

/// The value of `name = value`, without the invisible group that a `macro_rules` fragment brings.
fn value<'a>(meta: &'a Meta, example: &str) -> syn::Result<&'a Expr> {
    let Meta::NameValue(pair) = meta else {
        let message = format!("`{}` takes a value, as in `{example}`", spoken(meta.path()));
        return Err(Error::new_spanned(meta, message));
    };
    let mut value = &pair.value;
    while let Expr::Group(group) = value {
        value = &group.expr;
    }
    Ok(value)
}

fn text(meta: &Meta, example: &str) -> syn::Result<LitStr> {
    let value = value(meta, example)?;
    match value {
        Expr::Lit(lit) => match &lit.lit {
            Lit::Str(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
    .ok_or_else(|| {
        let message = format!("`{}` takes text in quotes, as in `{example}`", spoken(meta.path()));
        Error::new_spanned(value, message)
    })
}

fn event_name(meta: &Meta) -> syn::Result<LitStr> {
    let text = text(meta, "name = \"order.placed\"")?;
    match name::fault(&text.value()) {
        None => Ok(text),
        Some(fault) => {
            let allowed = "allowed are tokens of letters, digits, `_` and `-`, joined by `.`";
            Err(Error::new(text.span(), format!("`{}` cannot name an event: {fault}; {allowed}", text.value())))
        }
    }
}

fn version(meta: &Meta) -> syn::Result<u32> {
    let value = value(meta, "version = 2")?;
    let number = match value {
        Expr::Lit(lit) => match &lit.lit {
            Lit::Int(number) => number.base10_parse::<u32>().ok(),
            _ => None,
        },
        _ => None,
    };
    number.filter(|&number| number > 0).ok_or_else(|| {
        let message = "`version` takes a whole number from 1 to 4294967295, as in `version = 2`";
        Error::new_spanned(value, message)
    })
}

fn priority(meta: &Meta) -> syn::Result<Ident> {
    let text = text(meta, "priority = \"high\"")?;
    let variant = match text.value().as_str() {
        "critical" => "Critical",
        "high" => "High",
        "normal" => "Normal",
        "low" => "Low",
        other => {
            let allowed = "allowed are `critical`, `high`, `normal` and `low`";
            return Err(Error::new(text.span(), format!("unknown priority `{other}`: {allowed}")));
        }
    };
    Ok(Ident::new(variant, Span::call_site()))
}

fn path<T: syn::parse::Parse>(meta: &Meta, example: &str, what: &str) -> syn::Result<T> {
    let text = text(meta, example)?;
    text.parse().map_err(|_| {
        let message = format!("`{}` is no path to {what}: write it as in `{example}`", text.value());
        Error::new(text.span(), message)
    })
}

/// `#[event]` means something on the type alone: one error for each elsewhere.
pub(crate) fn refuse_elsewhere(attrs: &[Attribute], errors: &mut Errors) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("event")) {
        errors.push(Error::new_spanned(attr, "`#[event(..)]` belongs on the type, not on a field or a variant"));
    }
}
