// Names of operations, as "fma.rn.f32", and what computes them.
#include <algorithm>
#include <sstream>

#include "operations.h"

namespace ptx {
namespace {

using Names = std::map<std::string, Handler>;

template <class F>
Names WholeBinary() {
  return {{"s16", Binary<int16_t, F>},  {"u16", Binary<uint16_t, F>}, {"b16", Binary<uint16_t, F>},
          {"s32", Binary<int32_t, F>},  {"u32", Binary<uint32_t, F>}, {"b32", Binary<uint32_t, F>},
          {"s64", Binary<int64_t, F>},  {"u64", Binary<uint64_t, F>}, {"b64", Binary<uint64_t, F>},
          {"pred", Binary<uint8_t, F>}};
}

template <class F>
Names AnyBinary() {
  Names found = WholeBinary<F>();
  found["f32"] = Binary<float, F>;
  found["f64"] = Binary<double, F>;
  found["f16"] = BinaryHalf<F>;
  return found;
}

template <class F>
Names Floats() {
  return {{"f32", Unary<float, F>}, {"f64", Unary<double, F>}};
}

template <bool kLeft>
Names Shifts() {
  return {{"b32", Shift<uint32_t, kLeft>}, {"u32", Shift<uint32_t, kLeft>}, {"s32", Shift<int32_t, kLeft>},
          {"b64", Shift<uint64_t, kLeft>}, {"u64", Shift<uint64_t, kLeft>}, {"s64", Shift<int64_t, kLeft>},
          {"b16", Shift<uint16_t, kLeft>}, {"u16", Shift<uint16_t, kLeft>}, {"s16", Shift<int16_t, kLeft>}};
}

template <Comparison kName, bool kUnordered>
Names Predicates() {
  return {{"s16", SetPredicate<int16_t, kName, kUnordered>}, {"u16", SetPredicate<uint16_t, kName, kUnordered>},
          {"b16", SetPredicate<uint16_t, kName, kUnordered>}, {"s32", SetPredicate<int32_t, kName, kUnordered>},
          {"u32", SetPredicate<uint32_t, kName, kUnordered>}, {"b32", SetPredicate<uint32_t, kName, kUnordered>},
          {"s64", SetPredicate<int64_t, kName, kUnordered>}, {"u64", SetPredicate<uint64_t, kName, kUnordered>},
          {"b64", SetPredicate<uint64_t, kName, kUnordered>}, {"f32", SetPredicate<float, kName, kUnordered>},
          {"f64", SetPredicate<double, kName, kUnordered>}, {"f16", SetPredicate<Half, kName, kUnordered>}};
}

template <Comparison kName, bool kUnordered>
void AddComparison(const std::string& name, std::map<std::string, Names>* to) {
  (*to)["setp." + name] = Predicates<kName, kUnordered>();
  (*to)["set." + name] = {{"f16.f16", SetHalf<Half, kName, kUnordered>}};
}

template <class To, Rounding kTo>
void AddConversions(const std::string& to, Names* names) {
  std::string start = to + ".";
  (*names)[start + "u8"] = Convert<To, uint8_t, kTo>;
  (*names)[start + "s8"] = Convert<To, int8_t, kTo>;
  (*names)[start + "u16"] = Convert<To, uint16_t, kTo>;
  (*names)[start + "s16"] = Convert<To, int16_t, kTo>;
  (*names)[start + "u32"] = Convert<To, uint32_t, kTo>;
  (*names)[start + "s32"] = Convert<To, int32_t, kTo>;
  (*names)[start + "u64"] = Convert<To, uint64_t, kTo>;
  (*names)[start + "s64"] = Convert<To, int64_t, kTo>;
  (*names)[start + "f16"] = Convert<To, Half, kTo>;
  (*names)[start + "f32"] = Convert<To, float, kTo>;
  (*names)[start + "f64"] = Convert<To, double, kTo>;
}

template <Rounding kTo>
Names Conversions() {
  Names names;
  AddConversions<uint16_t, kTo>("u16", &names);
  AddConversions<int16_t, kTo>("s16", &names);
  AddConversions<uint32_t, kTo>("u32", &names);
  AddConversions<int32_t, kTo>("s32", &names);
  AddConversions<uint64_t, kTo>("u64", &names);
  AddConversions<int64_t, kTo>("s64", &names);
  AddConversions<Half, kTo>("f16", &names);
  AddConversions<float, kTo>("f32", &names);
  AddConversions<double, kTo>("f64", &names);
  return names;
}

template <Space kSpace>
void AddAccesses(const std::string& space, std::map<std::string, Names>* to) {
  (*to)["ld." + space] = {{"u8", Load<uint8_t, kSpace>}, {"s8", Load<int8_t, kSpace>}, {"b8", Load<uint8_t, kSpace>},
      {"u16", Load<uint16_t, kSpace>}, {"s16", Load<int16_t, kSpace>}, {"b16", Load<uint16_t, kSpace>},
      {"u32", Load<uint32_t, kSpace>}, {"s32", Load<int32_t, kSpace>}, {"b32", Load<uint32_t, kSpace>},
      {"u64", Load<uint64_t, kSpace>}, {"s64", Load<int64_t, kSpace>}, {"b64", Load<uint64_t, kSpace>},
      {"f32", Load<float, kSpace>}, {"f64", Load<double, kSpace>}};
  (*to)["st." + space] = {{"u8", Store<uint8_t, kSpace>}, {"b8", Store<uint8_t, kSpace>},
      {"u16", Store<uint16_t, kSpace>}, {"b16", Store<uint16_t, kSpace>}, {"u32", Store<uint32_t, kSpace>},
      {"b32", Store<uint32_t, kSpace>}, {"s32", Store<int32_t, kSpace>}, {"u64", Store<uint64_t, kSpace>},
      {"b64", Store<uint64_t, kSpace>}, {"f32", Store<float, kSpace>}, {"f64", Store<double, kSpace>}};
}

std::map<std::string, Names> AllHandlers() {
  std::map<std::string, Names> all = {
      {"add", AnyBinary<Add>()}, {"sub", AnyBinary<Sub>()}, {"mul", AnyBinary<Mul>()}, {"div", AnyBinary<Div>()},
      {"min", AnyBinary<Min>()}, {"max", AnyBinary<Max>()}, {"rem", WholeBinary<Rem>()}, {"and", WholeBinary<And>()},
      {"or", WholeBinary<Or>()}, {"xor", WholeBinary<Xor>()}, {"shl", Shifts<true>()}, {"shr", Shifts<false>()},
      {"ex2", Floats<Exp2>()}, {"lg2", Floats<Log2>()}, {"sin", Floats<Sine>()}, {"cos", Floats<Cosine>()},
      {"rsqrt", Floats<Rsqrt>()}, {"sqrt", Floats<Sqrt>()}, {"rcp", Floats<Rcp>()},
      {"not", {{"b16", Unary<uint16_t, Not>}, {"b32", Unary<uint32_t, Not>}, {"b64", Unary<uint64_t, Not>},
               {"pred", [](Thread& t, const Instruction& i) { Put<uint64_t>(t, i.out[0], !In<uint8_t>(t, i, 0)); }}}},
      {"neg", {{"s32", Unary<int32_t, Neg>}, {"s64", Unary<int64_t, Neg>}, {"s16", Unary<int16_t, Neg>},
               {"f32", Unary<float, Neg>}, {"f64", Unary<double, Neg>},
               {"f16", [](Thread& t, const Instruction& i) { Put<uint16_t>(t, i.out[0], In<uint16_t>(t, i, 0) ^ 0x8000); }}}},
      {"abs", {{"s32", Unary<int32_t, Abs>}, {"f32", Unary<float, Abs>}, {"f64", Unary<double, Abs>},
               {"f16", [](Thread& t, const Instruction& i) { Put<uint16_t>(t, i.out[0], In<uint16_t>(t, i, 0) & 0x7fff); }}}},
      {"mul.wide", {{"s32", MulWide<int32_t, int64_t>}, {"u32", MulWide<uint32_t, uint64_t>},
                    {"s16", MulWide<int16_t, int32_t>}, {"u16", MulWide<uint16_t, uint32_t>}}},
      {"mad.wide", {{"s32", MulWide<int32_t, int64_t>}, {"u32", MulWide<uint32_t, uint64_t>}}},
      {"mul.hi", {{"s32", MulHigh<int32_t>}, {"u32", MulHigh<uint32_t>}}},
      {"mad", {{"s32", MulAdd<int32_t>}, {"u32", MulAdd<uint32_t>}, {"s64", MulAdd<int64_t>}, {"u64", MulAdd<uint64_t>}}},
      {"fma", {{"f32", Fma<float>}, {"f64", Fma<double>}, {"f16", FmaHalf}}},
      {"fma.rm", {{"f32", FmaDown}}},
      {"prmt", {{"b32", Permute}}},
      {"bfi", {{"b32", Insert<uint32_t>}, {"b64", Insert<uint64_t>}}},
      {"cvt", Conversions<kNearest>()}, {"cvt.rzi", Conversions<kZero>()}, {"cvt.rmi", Conversions<kDown>()},
      {"cvt.rpi", Conversions<kUp>()}, {"cvt.sat", Conversions<kSaturate>()}};
  for (auto& [name, rounding] : std::map<std::string, Handler>{{"cvt.rzi", RoundFloat<kZero>},
           {"cvt.rmi", RoundFloat<kDown>}, {"cvt.rpi", RoundFloat<kUp>}, {"cvt.rni", RoundFloat<kNearest>}}) {
    if (name == "cvt.rni") all[name] = all["cvt"];
    all[name]["f32.f32"] = rounding;
  }
  for (auto& [type, handler] : Predicates<kEq, false>()) {
    all["mov"][type] = all["cvta"][type] = Pack;
    all["selp"][type] = type.back() == '4' ? Select<uint64_t> : type.back() == '2' ? Select<uint32_t> : Select<uint16_t>;
  }
  all["mov"]["pred"] = Pack;
  AddComparison<kEq, false>("eq", &all), AddComparison<kEq, true>("equ", &all);
  AddComparison<kNe, false>("ne", &all), AddComparison<kNe, true>("neu", &all);
  AddComparison<kLt, false>("lt", &all), AddComparison<kLt, true>("ltu", &all);
  AddComparison<kLe, false>("le", &all), AddComparison<kLe, true>("leu", &all);
  AddComparison<kGt, false>("gt", &all), AddComparison<kGt, true>("gtu", &all);
  AddComparison<kGe, false>("ge", &all), AddComparison<kGe, true>("geu", &all);
  AddAccesses<kGlobal>("global", &all), AddAccesses<kShared>("shared", &all);
  AddAccesses<kLocal>("local", &all), AddAccesses<kParameter>("param", &all);
  return all;
}

// What tells how exact or how cached something is, which is all the same here.
bool Matters(const std::string& part) {
  static const std::vector<std::string> ignored = {"rn", "approx", "ftz", "full", "lo", "nc", "volatile", "v2",
                                                   "v4", "to", "relaxed", "weak", "cta", "gpu", "sys"};
  return std::find(ignored.begin(), ignored.end(), part) == ignored.end();
}

}  // namespace

Handler FindHandler(const std::string& operation) {
  static const std::map<std::string, Names> all = AllHandlers();
  static const Names alone = {{"bra", Jump}, {"bra.uni", Jump}, {"ret", Return}, {"bar.sync", Barrier},
                              {"shfl.sync.down.b32", Shuffle}, {"activemask.b32", ActiveMask}};
  if (auto found = alone.find(operation); found != alone.end()) return found->second;
  std::vector<std::string> parts;
  std::istringstream words(operation);
  for (std::string part; std::getline(words, part, '.');) {
    if (Matters(part)) parts.push_back(part);
  }
  if (parts[0] == "cvta") parts = {"cvta", parts.back()};
  // The longest name before types.
  for (size_t count = parts.size() - 1; count > 0; --count) {
    std::string name, type;
    for (size_t index = 0; index < parts.size(); ++index) {
      std::string* to = index < count ? &name : &type;
      *to += (to->empty() ? "" : ".") + parts[index];
    }
    auto entry = all.find(name);
    if (entry == all.end()) continue;
    auto found = entry->second.find(type);
    return found == entry->second.end() ? nullptr : found->second;
  }
  return nullptr;
}

}  // namespace ptx
