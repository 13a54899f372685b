#include "report/text.h"

#include <fmt/core.h>

#include <array>
#include <cmath>

namespace octavo {

std::string format_loss(double loss) {
    if (!std::isfinite(loss)) return fmt::format("{}", loss);
    return std::abs(loss) < 1000 ? fmt::format("{:.4f}", loss) : fmt::format("{:.2e}", loss);
}

std::string format_compact(double value) {
    if (!std::isfinite(value)) return fmt::format("{}", value);
    if (std::abs(value) >= 999.5e12) return fmt::format("{:.0e}", value);
    constexpr std::array kUnits = {"", "k", "M", "G", "T"};
    std::size_t unit = 0;
    // 999.5 would print as 1000, hence not 1000.
    while (std::abs(value) >= 999.5 && unit + 1 < kUnits.size()) {
        value /= 1000;
        ++unit;
    }
    const double size = std::abs(value);
    const int decimals = size >= 99.95 || size == 0 ? 0 : size >= 9.995 ? 1 : 2;
    return fmt::format("{:.{}f}{}", value, decimals, kUnits[unit]);
}

std::string format_count(std::int64_t value) {
    const std::string digits = fmt::format("{}", value);
    std::string out;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        const bool after_digit = i > 0 && digits[i - 1] != '-';
        if (after_digit && (digits.size() - i) % 3 == 0) out += ',';
        out += digits[i];
    }
    return out;
}

std::string format_bytes(std::int64_t bytes) {
    std::string text = format_compact(double(bytes)) + 'B';
    text.insert(text.find_first_not_of("-.0123456789"), 1, ' ');
    return text;
}

std::string format_duration(double seconds) {
    if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "-";
    const auto s = static_cast<std::int64_t>(std::llround(seconds));
    if (s < 60) return fmt::format("{}s", s);
    if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
    if (s < 86400) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
    return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

std::string format_percent_change(double value, double reference) {
    const double change = 100 * (value - reference) / reference;
    if (!std::isfinite(change)) return "";
    return fmt::format("{:+.{}f} %", change, std::abs(change) < 10 ? 2 : 1);
}

std::string html_escape(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (const char c : text) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\'':
                out += "&#39;";
                break;
            case '\n':
            case '\t':
                out += c;
                break;
            default:
                // Control characters are not allowed in HTML, not even escaped.
                if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) out += c;
        }
    }
    return out;
}

}  // namespace octavo
