//! The `key` attribute: text that names fields in, the expression of `Event::key` out.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Data, Error, Fields, LitStr, Member, Path, Type};

use crate::attributes::Errors;

/// The fields that make the key, in the order given, and where they were asked for.
pub(crate) struct Key {
    fields: Vec<(Member, Type)>,
    span: Span,
}

impl Key {
    /// Finds the fields that `text` names. `None` if any is missing, with an error for each.
    pub(crate) fn read(text: &LitStr, data: &Data, errors: &mut Errors) -> Option<Self> {
        let fields = match data {
            Data::Struct(data) => named(&data.fields),
            Data::Enum(_) => {
                let message = "an enum cannot have a `key`: its variants share no field; use a struct that holds the enum beside the key, or leave `key` out";
                errors.push(Error::new(text.span(), message));
                return None;
            }
            Data::Union(_) => return None,
        };
        let mut found: Vec<(Member, Type)> = Vec::new();
        let mut asked = Vec::new();
        for name in text.value().split(',').map(str::trim) {
            if let Some(field) = errors.keep(find(name, &asked, &fields, text.span())) {
                found.push(field);
            }
            asked.push(name.to_owned());
        }
        (found.len() == asked.len()).then_some(Self { fields: found, span: text.span() })
    }

    pub(crate) fn types(&self) -> impl Iterator<Item = &Type> {
        self.fields.iter().map(|(_, ty)| ty)
    }

    /// The body of `Event::key`. It stands at the attribute's place, so a field that is not `Display` is told there.
    pub(crate) fn body(&self, krate: &Path) -> TokenStream {
        let place = Span::call_site().located_at(self.span);
        let fields = self.fields.iter().map(|(member, _)| placed(member, place));
        let parts: Vec<TokenStream> = fields.map(|member| quote_spanned!(place=> &self.#member)).collect();
        let key = match parts.as_slice() {
            [one] => quote_spanned!(place=> #krate::Key::new(#one)),
            all => quote_spanned!(place=> #krate::Key::joined(&[#(#all),*])),
        };
        quote!(::core::option::Option::Some(#key))
    }
}

/// Each field by the name under which a key asks for it: its identifier or its index.
fn named(fields: &Fields) -> Vec<(String, Member, Type)> {
    let members = fields.members().zip(fields).map(|(member, field)| {
        let name = match &member {
            Member::Named(ident) => ident.unraw().to_string(),
            Member::Unnamed(index) => index.index.to_string(),
        };
        (name, member, field.ty.clone())
    });
    members.collect()
}

fn placed(member: &Member, place: Span) -> Member {
    let mut member = member.clone();
    match &mut member {
        Member::Named(ident) => ident.set_span(place),
        Member::Unnamed(index) => index.span = place,
    }
    member
}

fn find(name: &str, asked: &[String], fields: &[(String, Member, Type)], span: Span) -> syn::Result<(Member, Type)> {
    if name.is_empty() {
        return Err(Error::new(span, format!("`key` has an empty field name: {}", allowed(fields))));
    }
    if asked.iter().any(|before| before == name) {
        return Err(Error::new(span, format!("`key` names the field `{name}` twice")));
    }
    let field = fields.iter().find(|(field, ..)| field == name);
    field
        .map(|(_, member, ty)| (member.clone(), ty.clone()))
        .ok_or_else(|| Error::new(span, format!("`key` names no field `{name}`: {}", allowed(fields))))
}

fn allowed(fields: &[(String, Member, Type)]) -> String {
    if fields.is_empty() {
        return "the struct has no fields".to_owned();
    }
    let names: Vec<String> = fields.iter().map(|(name, ..)| format!("`{name}`")).collect();
    format!("the fields are {}", names.join(", "))
}
