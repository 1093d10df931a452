/* modules.c: see modules.h. dl_iterate_phdr takes the loader's lock and allocates nothing; names
 * are copied, since a library may be unloaded later. */
#include "profile/modules.h"

#include <link.h>
#include <string.h>

/* One that does not fit is cut. */
static VA_COLD uint32_t add_path(Modules *modules, const char *path)
{
    uint32_t at = modules->paths_used;
    size_t room = VA_PROFILE_PATHS_BYTES - 1 - at;
    size_t length = 0;
    for (; path != NULL && path[length] != '\0' && length < room; length++)
        modules->paths[at + length] = path[length];
    modules->paths_used += (uint32_t)va_min(length + 1, room); /* behind it a zero */
    return at;
}

/* Notes are a header of 12 bytes, a name and a content, each padded to 4 bytes. */
static VA_COLD void read_build_id(Module *module, const char *notes, size_t bytes)
{
    while (bytes >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const void *)notes;
        size_t name = va_align_up(note->n_namesz, 4);
        size_t whole = sizeof *note + name + va_align_up(note->n_descsz, 4);
        if (whole > bytes)
            return;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
            memcmp(note + 1, "GNU", 4) == 0) {
            module->build_id_bytes = (uint32_t)va_min(note->n_descsz, sizeof module->build_id);
            memcpy(module->build_id, notes + sizeof *note + name, module->build_id_bytes);
            return;
        }
        notes += whole;
        bytes -= whole;
    }
}

static VA_COLD bool is_loaded(const struct dl_phdr_info *info, uintptr_t start, size_t bytes)
{
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && start - header->p_vaddr <= header->p_filesz &&
            bytes <= header->p_filesz - (start - header->p_vaddr))
            return true;
    }
    return false;
}

typedef struct Search {
    Modules *modules;
    const char *program;
} Search;

static VA_COLD int add_object(struct dl_phdr_info *info, size_t info_bytes, void *context)
{
    Search *search = context;
    Modules *modules = search->modules;
    Module module = {.bias = info->dlpi_addr};
    (void)info_bytes;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_NOTE && module.build_id_bytes == 0 &&
            is_loaded(info, header->p_vaddr, header->p_memsz))
            read_build_id(&module, (const char *)(module.bias + header->p_vaddr), header->p_memsz);
    }
    bool is_program = modules->count == 0 && (info->dlpi_name == NULL || *info->dlpi_name == '\0');
    module.path = add_path(modules, is_program ? search->program : info->dlpi_name);
    for (unsigned i = 0; i < info->dlpi_phnum && modules->count < VA_PROFILE_MODULES; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || (header->p_flags & PF_X) == 0)
            continue;
        module.start = module.bias + header->p_vaddr;
        module.end = module.start + header->p_memsz;
        module.offset = header->p_offset;
        modules->list[modules->count++] = module;
    }
    return 0;
}

VA_COLD void va_modules_read(Modules *modules, const char *program)
{
    Search search = {modules, program};
    dl_iterate_phdr(add_object, &search);
}

VA_COLD const Module *va_modules_find(const Modules *modules, uintptr_t address)
{
    for (uint32_t i = 0; i < modules->count; i++)
        if (address >= modules->list[i].start && address < modules->list[i].end)
            return &modules->list[i];
    return NULL;
}
