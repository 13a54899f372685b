// Unicode's canonical composition (NFC).
#pragma once

#include <string>
#include <string_view>

namespace octavo {

// Returns `text` itself if it is in NFC already, else `buffer`, filled with its NFC. Bytes that are
// not UTF-8 stay as they are.
std::string_view to_nfc(std::string_view text, std::string& buffer);

}  // namespace octavo
