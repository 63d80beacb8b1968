//! Derive macros of millstream.
//!
//! [`macro@Event`] and [`macro@debug_handler`]. Use them through `millstream`, which exports the first beside the trait of the
//! same name: what they write names items of that crate, so this crate alone compiles nothing. `millstream::Event` has the
//! examples.

mod attributes;
mod debug;
mod expand;
mod key;
mod name;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemFn, parse_macro_input};

/// Implements `millstream::Event` for a struct or an enum.
///
/// The type must also be `Clone`, `Serialize`, `DeserializeOwned`, `Send`, `Sync` and `'static`, which the trait asks for.
///
/// `#[event(..)]` on the type takes these, each at most once, all optional:
///
/// | attribute | value | default |
/// | --- | --- | --- |
/// | `name = "order.placed"` | tokens of letters, digits, `_`, `-` and `$`, joined by `.` | the words of the type's name in lower case, joined by dots: `OrderPlaced` is `order.placed`, `HTTPRequest` is `http.request` |
/// | `version = 2` | a whole number from 1 to 4294967295 | 1 |
/// | `key = "order_id"` | a field (in a tuple struct its index); or several, `"tenant, order_id"`, which are joined. Each must be `Display` | no key |
/// | `priority = "high"` | `critical`, `high`, `normal` or `low` | `normal` |
/// | `upgrade = "path::to::fn"` | a function `(from: u32, data: JsonValue) -> Result<JsonValue, UpgradeError>` that turns an older version's data into this one's | older versions are refused |
/// | `crate = "path"` | where `millstream` is found, if not under its own name | `::millstream` |
///
/// An enum is one event with one name and cannot have a `key`, since its variants share no field.
///
/// A generic type needs an explicit `name`, because a default one would hide that all its instances share it; no two
/// instances should meet in one runtime. The implementation holds for each instance that meets the trait's own
/// requirements and whose key fields are `Display`. A lifetime parameter is refused: an event owns its data.
///
/// Mistakes are compile errors at the place where they stand, all in one go.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::event(&input).unwrap_or_else(|errors| errors.to_compile_error()).into()
}

/// Says what is wrong with an `async fn` that is to be a handler, at the place where it stands: an argument that is no
/// extractor, a return value that does not become events, a future that is not `Send`. It changes nothing about the function, and
/// costs nothing when the program runs.
///
/// ```ignore
/// #[millstream::debug_handler]
/// async fn charge(order: OrderPlaced, bank: State<Bank>) -> Result<Charged, BankError> {
///     ..
/// }
/// ```
///
/// It is for functions with neither generics nor `self`.
#[proc_macro_attribute]
pub fn debug_handler(settings: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    debug::handler(&settings.into(), &function).into()
}
