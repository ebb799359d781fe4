//! What surrounds the code: the optional features, the imports, and what pages say.

mod docs;
mod features;
mod imports;
