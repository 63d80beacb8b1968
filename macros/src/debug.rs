//! What is wrong with a function that is to be a handler, asked of the compiler piece by piece.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Error, FnArg, ItemFn, ReturnType, Type, spanned::Spanned};

/// The most arguments of a handler.
const MOST: usize = 8;

/// The function, and beside it what only compiles if it is a handler.
pub(crate) fn handler(settings: &TokenStream, function: &ItemFn) -> TokenStream {
    let faults = faults(settings, function).map(|fault| fault.to_compile_error());
    let faults: Vec<_> = faults.collect();
    let checks = if faults.is_empty() { checks(function) } else { quote!(#(#faults)*) };
    quote!(#function #checks)
}

/// What the function's shape says.
fn faults<'a>(settings: &'a TokenStream, function: &'a ItemFn) -> impl Iterator<Item = Error> + 'a {
    let signature = &function.sig;
    let no_settings = (!settings.is_empty()).then(|| Error::new_spanned(settings, "it takes no settings"));
    let no_async = signature.asyncness.is_none().then(|| {
        Error::new_spanned(
            signature.fn_token,
            "a handler is an `async fn`; give one that blocks to `millstream::blocking`",
        )
    });
    let generic = (!signature.generics.params.is_empty()).then(|| {
        Error::new_spanned(&signature.generics, "a generic function cannot be looked at; its instances can be handlers")
    });
    let own = signature.inputs.iter().find(|input| matches!(input, FnArg::Receiver(_)));
    let own = own.map(|own| {
        Error::new_spanned(own, "a method is no handler: take what it needs as `State<S>`, or capture it in a closure")
    });
    let many = signature.inputs.iter().nth(MOST);
    let many = many.map(|many| Error::new_spanned(many, "a handler has eight arguments at most"));
    [no_settings, no_async, generic, own, many].into_iter().flatten()
}

/// One question for each argument, one for the return value, and one for the future.
fn checks(function: &ItemFn) -> TokenStream {
    let types: Vec<&Type> = function.sig.inputs.iter().filter_map(of_argument).collect();
    let arguments = types.iter().map(|of| {
        quote_spanned! {of.span()=>
            const _: fn() = || {
                fn is_argument<T: ::millstream::Extract>() {}
                is_argument::<#of>();
            };
        }
    });
    let returned = match &function.sig.output {
        ReturnType::Default => TokenStream::new(),
        ReturnType::Type(_, of) => quote_spanned! {of.span()=>
            const _: fn() = || {
                fn becomes_events<T: ::millstream::IntoOutputs>() {}
                becomes_events::<#of>();
            };
        },
    };
    let name = &function.sig.ident;
    let sends = quote_spanned! {name.span()=>
        const _: fn() = || {
            fn future_is_send<F: ::core::future::Future + ::core::marker::Send>(_: impl ::core::ops::FnOnce(#(#types),*) -> F) {}
            future_is_send(#name);
        };
    };
    quote!(#(#arguments)* #returned #sends)
}

fn of_argument(input: &FnArg) -> Option<&Type> {
    if let FnArg::Typed(typed) = input { Some(&typed.ty) } else { None }
}
