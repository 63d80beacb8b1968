//! The whole derive: a type's tokens in, its `impl Event` or every error out.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, ExprPath, GenericParam, LitStr, Path, WhereClause, parse_quote};

use crate::attributes::{Attributes, Errors, refuse_elsewhere};
use crate::key::Key;
use crate::name;

pub(crate) fn event(input: &DeriveInput) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let attributes = Attributes::read(&input.attrs, &mut errors);
    refuse_shape(input, &mut errors);
    let key = attributes.key.as_ref().and_then(|text| Key::read(text, &input.data, &mut errors));
    let default = if attributes.gives("name") { None } else { errors.keep(default_name(input)) };
    errors.finish()?;
    let name = attributes.name.clone().or(default);
    Ok(implementation(input, &attributes, name.as_ref(), key.as_ref()))
}

fn refuse_shape(input: &DeriveInput, errors: &mut Errors) {
    for lifetime in input.generics.lifetimes() {
        let message = "an event owns its data and outlives its emitter, so it cannot have a lifetime parameter";
        errors.push(Error::new_spanned(lifetime, message));
    }
    match &input.data {
        Data::Struct(data) => data.fields.iter().for_each(|field| refuse_elsewhere(&field.attrs, errors)),
        Data::Enum(data) => {
            for variant in &data.variants {
                refuse_elsewhere(&variant.attrs, errors);
                variant.fields.iter().for_each(|field| refuse_elsewhere(&field.attrs, errors));
            }
        }
        Data::Union(data) => {
            let message = "a union cannot be an event: `Event` is derived for structs and enums";
            errors.push(Error::new(data.union_token.span, message));
        }
    }
}

fn default_name(input: &DeriveInput) -> syn::Result<LitStr> {
    if input.generics.params.iter().any(|param| !matches!(param, GenericParam::Lifetime(_))) {
        let message =
            "a generic event needs an explicit name, which all its instances share: add `#[event(name = \"..\")]`";
        return Err(Error::new(input.generics.span(), message));
    }
    let name = name::of_type(&input.ident.unraw().to_string());
    if name.is_empty() {
        let message = "this type's name has no words to name an event by: add `#[event(name = \"..\")]`";
        return Err(Error::new(input.ident.span(), message));
    }
    Ok(LitStr::new(&name, input.ident.span()))
}

fn implementation(
    input: &DeriveInput,
    attributes: &Attributes,
    name: Option<&LitStr>,
    key: Option<&Key>,
) -> TokenStream {
    let krate = attributes.krate();
    let ident = &input.ident;
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let where_clause = where_clause(input, &krate, key);
    let version = attributes.version.unwrap_or(1);
    let priority = attributes.priority();
    let key = key.map(|key| key_fn(&krate, key));
    let upgrade = attributes.upgrade.as_ref().map(|path| upgrade_fn(&krate, path));
    quote! {
        #[automatically_derived]
        impl #impl_generics #krate::Event for #ident #ty_generics #where_clause {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const PRIORITY: #krate::Priority = #krate::Priority::#priority;
            #key
            #upgrade
        }
    }
}

fn key_fn(krate: &Path, key: &Key) -> TokenStream {
    let body = key.body(krate);
    quote! {
        fn key(&self) -> ::core::option::Option<#krate::Key> {
            #body
        }
    }
}

fn upgrade_fn(krate: &Path, path: &ExprPath) -> TokenStream {
    let place = Span::call_site().located_at(path.span());
    let call = quote_spanned!(place=> #path(from, data));
    quote! {
        fn upgrade(
            from: u32,
            data: #krate::JsonValue,
        ) -> ::core::result::Result<#krate::JsonValue, #krate::UpgradeError> {
            #call
        }
    }
}

/// The type's own clause; a generic type is an event where it meets the trait's requirements and its key's fields are
/// `Display`. On a concrete type those are no bounds but facts, which the compiler checks in the body.
fn where_clause(input: &DeriveInput, krate: &Path, key: Option<&Key>) -> Option<WhereClause> {
    let mut generics = input.generics.clone();
    if !generics.params.is_empty() {
        let ident = &input.ident;
        let (_, ty_generics, _) = input.generics.split_for_impl();
        let predicates = &mut generics.make_where_clause().predicates;
        predicates.push(parse_quote! {
            #ident #ty_generics: ::core::clone::Clone
                + #krate::__private::Serialize
                + #krate::__private::DeserializeOwned
                + ::core::marker::Send
                + ::core::marker::Sync
                + 'static
        });
        for ty in key.into_iter().flat_map(Key::types) {
            predicates.push(parse_quote!(#ty: ::core::fmt::Display));
        }
    }
    generics.where_clause
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derive(input: &str) -> String {
        let input = syn::parse_str(input).unwrap();
        event(&input).unwrap().to_string()
    }

    fn errors(input: &str) -> Vec<String> {
        let input = syn::parse_str(input).unwrap();
        let errors = event(&input).unwrap_err();
        errors.into_iter().map(|error| error.to_string()).collect()
    }

    #[track_caller]
    fn one_error(input: &str, expected: &str) {
        assert_eq!(errors(input), [expected]);
    }

    #[track_caller]
    fn assert_tokens(actual: &str, expected: &TokenStream) {
        assert_eq!(actual, expected.to_string());
    }

    #[test]
    fn a_bare_struct_takes_every_default() {
        let expected = quote! {
            #[automatically_derived]
            impl ::millstream::Event for OrderPlaced {
                const NAME: &'static str = "order.placed";
                const VERSION: u32 = 1u32;
                const PRIORITY: ::millstream::Priority = ::millstream::Priority::Normal;
            }
        };
        assert_tokens(&derive("struct OrderPlaced { id: u64 }"), &expected);
        assert_tokens(&derive("enum OrderPlaced { A, B(u8) }"), &expected);
    }

    #[test]
    fn every_attribute_has_its_place() {
        let derived = derive(
            r#"
            #[event(name = "orders.new", version = 3, priority = "critical")]
            #[event(key = "id", upgrade = "old::up", crate = "crate::engine")]
            struct OrderPlaced { id: u64 }
            "#,
        );
        let expected = quote! {
            #[automatically_derived]
            impl crate::engine::Event for OrderPlaced {
                const NAME: &'static str = "orders.new";
                const VERSION: u32 = 3u32;
                const PRIORITY: crate::engine::Priority = crate::engine::Priority::Critical;
                fn key(&self) -> ::core::option::Option<crate::engine::Key> {
                    ::core::option::Option::Some(crate::engine::Key::new(&self.id))
                }
                fn upgrade(
                    from: u32,
                    data: crate::engine::JsonValue,
                ) -> ::core::result::Result<crate::engine::JsonValue, crate::engine::UpgradeError> {
                    old::up(from, data)
                }
            }
        };
        assert_tokens(&derived, &expected);
    }

    #[test]
    fn each_priority_has_its_class() {
        for (text, class) in [("critical", "Critical"), ("high", "High"), ("normal", "Normal"), ("low", "Low")] {
            let derived = derive(&format!("#[event(priority = \"{text}\")] struct A;"));
            assert!(derived.contains(&format!(":: millstream :: Priority :: {class} ;")), "{derived}");
        }
    }

    #[test]
    fn a_key_of_several_fields_is_joined_in_their_order() {
        let derived = derive(r#"#[event(key = "b, a")] struct A { a: u8, b: u8 }"#);
        let joined = quote!(::millstream::Key::joined(&[&self.b, &self.a])).to_string();
        assert!(derived.contains(&joined), "{derived}");
    }

    #[test]
    fn a_key_finds_raw_fields_and_tuple_fields() {
        let derived = derive(r#"#[event(key = "type")] struct A { r#type: u8 }"#);
        assert!(derived.contains("& self . r#type"), "{derived}");
        let derived = derive(r#"#[event(key = "1")] struct A(u8, u8);"#);
        assert!(derived.contains("& self . 1"), "{derived}");
    }

    #[test]
    fn a_generic_type_keeps_its_bounds_and_asks_for_the_traits_own() {
        let derived = derive(
            r#"#[event(name = "a", key = "id")] struct Wrapper<T: Copy, const N: usize> where T: Ord { id: T }"#,
        );
        let expected = quote! {
            impl<T: Copy, const N: usize> ::millstream::Event for Wrapper<T, N>
            where
                T: Ord,
                Wrapper<T, N>: ::core::clone::Clone
                    + ::millstream::__private::Serialize
                    + ::millstream::__private::DeserializeOwned
                    + ::core::marker::Send
                    + ::core::marker::Sync
                    + 'static,
                T: ::core::fmt::Display
        };
        assert!(derived.contains(&expected.to_string()), "{derived}");
    }

    #[test]
    fn an_unknown_attribute_is_told_what_is_allowed() {
        one_error(
            r#"#[event(nmae = "a")] struct A;"#,
            "unknown attribute `nmae`: allowed are `name`, `version`, `key`, `priority`, `upgrade` and `crate`",
        );
    }

    #[test]
    fn a_duplicate_attribute_is_refused_across_lists_too() {
        let expected = "duplicate attribute `version`: give it once";
        one_error("#[event(version = 1, version = 2)] struct A;", expected);
        one_error("#[event(version = 1)] #[event(version = 1)] struct A;", expected);
    }

    #[test]
    fn a_bad_name_is_refused() {
        for name in ["", "a.*", "a.>", "a b", "a..b", ".a", "a."] {
            let found = errors(&format!("#[event(name = {name:?})] struct A;"));
            assert_eq!(found.len(), 1, "{name:?}: {found:?}");
            assert!(found[0].starts_with(&format!("`{name}` cannot name an event: ")), "{found:?}");
            assert!(
                found[0].ends_with("; allowed are tokens of letters, digits, `_` and `-`, joined by `.`"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_version_is_a_whole_number_from_one() {
        for version in ["0", "-1", "1.5", "\"1\"", "4294967296", "X"] {
            one_error(
                &format!("#[event(version = {version})] struct A;"),
                "`version` takes a whole number from 1 to 4294967295, as in `version = 2`",
            );
        }
    }

    #[test]
    fn an_unknown_priority_is_told_what_is_allowed() {
        let expected = "unknown priority `High`: allowed are `critical`, `high`, `normal` and `low`";
        one_error(r#"#[event(priority = "High")] struct A;"#, expected);
    }

    #[test]
    fn a_key_that_is_no_field_is_told_the_fields() {
        one_error(
            r#"#[event(key = "c")] struct A { a: u8, b: u8 }"#,
            "`key` names no field `c`: the fields are `a`, `b`",
        );
        one_error(r#"#[event(key = "2")] struct A(u8);"#, "`key` names no field `2`: the fields are `0`");
        one_error(r#"#[event(key = "a")] struct A;"#, "`key` names no field `a`: the struct has no fields");
        one_error(r#"#[event(key = "a,")] struct A { a: u8 }"#, "`key` has an empty field name: the fields are `a`");
        one_error(r#"#[event(key = "a, a")] struct A { a: u8 }"#, "`key` names the field `a` twice");
    }

    #[test]
    fn an_enum_has_no_key() {
        let found = errors(r#"#[event(key = "a")] enum A { B { a: u8 } }"#);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("an enum cannot have a `key`: its variants share no field"), "{found:?}");
    }

    #[test]
    fn a_value_of_the_wrong_form_is_shown_the_right_one() {
        one_error("#[event(name)] struct A;", "`name` takes a value, as in `name = \"order.placed\"`");
        one_error("#[event(name = 5)] struct A<T>(T);", "`name` takes text in quotes, as in `name = \"order.placed\"`");
        one_error("#[event(key(a))] struct A { a: u8 }", "`key` takes a value, as in `key = \"order_id\"`");
        one_error(
            r#"#[event(upgrade = "1 + 1")] struct A;"#,
            "`1 + 1` is no path to a function: write it as in `upgrade = \"path::to::function\"`",
        );
        one_error(
            r#"#[event(crate = "a b")] struct A;"#,
            "`a b` is no path to the crate: write it as in `crate = \"::millstream\"`",
        );
    }

    #[test]
    fn a_bare_attribute_is_told_what_it_takes() {
        for attribute in ["#[event]", "#[event = \"a\"]"] {
            let found = errors(&format!("{attribute} struct A;"));
            assert_eq!(found.len(), 1, "{attribute}");
            assert!(found[0].starts_with("`#[event(..)]` takes a list in parentheses: allowed are"), "{found:?}");
        }
    }

    #[test]
    fn the_attribute_belongs_on_the_type() {
        let expected = "`#[event(..)]` belongs on the type, not on a field or a variant";
        one_error("struct A { #[event(key)] a: u8 }", expected);
        one_error("enum A { #[event(name = \"b\")] B }", expected);
        one_error("enum A { B(#[event] u8) }", expected);
    }

    #[test]
    fn shapes_that_cannot_be_events_are_refused() {
        one_error("union A { a: u8 }", "a union cannot be an event: `Event` is derived for structs and enums");
        one_error(
            "struct A<'a> { a: &'a str }",
            "an event owns its data and outlives its emitter, so it cannot have a lifetime parameter",
        );
        one_error(
            "struct A<T> { a: T }",
            "a generic event needs an explicit name, which all its instances share: add `#[event(name = \"..\")]`",
        );
        one_error("struct __;", "this type's name has no words to name an event by: add `#[event(name = \"..\")]`");
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let found = errors(
            r#"
            #[event(name = "a b", version = 0, priority = "urgent", key = "x, y", colour = 1)]
            #[event(version = 2)]
            struct A<'a> { #[event] a: &'a str }
            "#,
        );
        assert_eq!(found.len(), 9, "{found:#?}");
    }
}
