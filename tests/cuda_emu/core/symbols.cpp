/* Reads the program's own symbol table: the names of kernels, and where shared variables stand. */
#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "emu.h"

/* The addresses of all kernels, gathered by the linker (__global__). */
extern "C" __attribute__((weak)) const void *const __start___patchable_function_entries[];
extern "C" __attribute__((weak)) const void *const __stop___patchable_function_entries[];

namespace emu {

namespace {

struct Function {
    uintptr_t address;
    size_t bytes;
    const char *name;
};

struct Variable {
    SharedVariable seen;
    const char *mangled;
};

struct Table {
    uintptr_t load_address = 0;
    std::vector<Function> functions;
    std::vector<Variable> shared;
};

struct Program {
    uintptr_t load_address;
    unsigned char *storage;
    size_t storage_bytes;
};

} // namespace

/* The first object that dl_iterate_phdr shows is the program. */
static int first_object(struct dl_phdr_info *info, size_t, void *data) {
    Program *program = (Program *)data;
    program->load_address = info->dlpi_addr;
    program->storage = (unsigned char *)info->dlpi_tls_data;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS)
            program->storage_bytes = info->dlpi_phdr[i].p_memsz;
    return 1;
}

static std::string demangle(const char *name) {
    int status;
    char *text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
    std::string out = text ? text : name;
    free(text);
    return out;
}

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_index(const char *name) {
    const char *const names[] = {"threadIdx", "blockIdx", "blockDim", "gridDim"};
    for (const char *n : names)
        if (strcmp(name, n) == 0) return true;
    return false;
}

static void add_symbol(Table &table, const Elf64_Sym &symbol, const char *name) {
    if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_size > 0) {
        table.functions.push_back({table.load_address + symbol.st_value, symbol.st_size, name});
    } else if (ELF64_ST_TYPE(symbol.st_info) == STT_TLS && symbol.st_size > 0) {
        /* A static variable of a C++ function outside the emulator, the one array that launches
         * size, or what a kernel sees of its place. */
        const bool dynamic = strcmp(name, "lks_shared") == 0, index = is_index(name);
        const bool local = starts_with(name, "_ZZ") && !starts_with(name, "_ZZN3emu");
        if (dynamic || index || local)
            table.shared.push_back({{demangle(name), (size_t)symbol.st_value,
                                     (size_t)symbol.st_size, dynamic, index, nullptr},
                                    name});
    }
}

static Table *read_table() {
    Table *table = new Table;
    Program program = {};
    dl_iterate_phdr(first_object, &program);
    table->load_address = program.load_address;

    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (file < 0 || fstat(file, &info) != 0) fail("cannot read the program's symbols");
    /* Kept until the program ends: names point into it. */
    unsigned char *image =
        (unsigned char *)mmap(nullptr, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (image == MAP_FAILED) fail("cannot map the program's symbols");
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(image + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB) continue;
        const Elf64_Sym *symbols = (const Elf64_Sym *)(image + sections[i].sh_offset);
        const char *names = (const char *)image + sections[sections[i].sh_link].sh_offset;
        for (size_t s = 0; s < sections[i].sh_size / sizeof *symbols; s++)
            add_symbol(*table, symbols[s], names + symbols[s].st_name);
    }
    if (table->functions.empty()) fail("the program has no symbol table; do not strip tests");
    std::sort(table->functions.begin(), table->functions.end(),
              [](const Function &a, const Function &b) { return a.address < b.address; });
    return table;
}

static const Table &symbols() {
    static const Table *table = read_table();
    return *table;
}

static const char *mangled_name(const void *function) {
    const std::vector<Function> &all = symbols().functions;
    uintptr_t address = (uintptr_t)function;
    auto next = std::upper_bound(all.begin(), all.end(), address,
                                 [](uintptr_t a, const Function &f) { return a < f.address; });
    bool found = next != all.begin() && address < next[-1].address + next[-1].bytes;
    return found ? next[-1].name : nullptr;
}

/* The kernel that a variable is local to: function `_Z` x has variables `_ZZ` x `E` name. */
static const void *owner_of(const char *variable) {
    for (auto k = __start___patchable_function_entries; k != __stop___patchable_function_entries;
         k++) {
        const char *name = mangled_name(*k);
        if (!name || !starts_with(name, "_Z")) continue;
        const std::string prefix = std::string("_ZZ") + (name + 2) + "E";
        if (starts_with(variable, prefix.c_str())) return *k;
    }
    return nullptr;
}

static std::vector<SharedVariable> *find_owners() {
    auto *all = new std::vector<SharedVariable>;
    for (const Variable &v : symbols().shared) {
        all->push_back(v.seen);
        all->back().kernel = owner_of(v.mangled);
    }
    return all;
}

std::string symbol_name(const void *function) {
    if (const char *name = mangled_name(function)) return demangle(name);
    char text[32];
    snprintf(text, sizeof text, "%p", function);
    return text;
}

const SharedVariable *shared_variables(size_t *count) {
    static const std::vector<SharedVariable> *all = find_owners();
    *count = all->size();
    return all->data();
}

unsigned char *thread_storage(size_t *bytes) {
    Program program = {};
    dl_iterate_phdr(first_object, &program);
    *bytes = program.storage_bytes;
    return program.storage;
}

} // namespace emu
