#include "text/byte_level.h"

#include <gtest/gtest.h>

#include <set>

namespace octavo {
namespace {

TEST(ByteLevel, EveryByteHasACharacterOfItsOwn) {
    std::set<char32_t> characters;
    for (int byte = 0; byte < 256; ++byte) {
        const auto b = static_cast<unsigned char>(byte);
        characters.insert(character_of(b));
        EXPECT_EQ(byte_of(character_of(b)), b);
    }
    EXPECT_EQ(characters.size(), 256u);
    EXPECT_EQ(*characters.rbegin(), 0x143u);
}

TEST(ByteLevel, SpellsAsGpt2Does) {
    EXPECT_EQ(spelling_of_bytes(" the\n"), "ĠtheĊ");
    EXPECT_EQ(spelling_of_bytes("é"), "Ã©");
    EXPECT_EQ(bytes_of_spelling("Ġthe"), " the");
    EXPECT_EQ(bytes_of_spelling(" the"), std::nullopt);
    EXPECT_EQ(bytes_of_spelling("▁the"), std::nullopt);
    EXPECT_EQ(bytes_of_spelling("\xFF"), std::nullopt);
    EXPECT_EQ(byte_of(0x144), std::nullopt);
    EXPECT_EQ(byte_of(0x10FFFF), std::nullopt);
}

}  // namespace
}  // namespace octavo
