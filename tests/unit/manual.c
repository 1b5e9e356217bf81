/* The manual page says of every setting what the table of settings says. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sluice/options.h>

#define PAGE     SOURCE_ROOT "/docs/man/sluice.7"
#define PAGE_MAX 100000

static char page[PAGE_MAX];

static void read_page(void)
{
    FILE *file = fopen(PAGE, "r");

    cr_assert_not_null(file, "%s", PAGE);
    page[fread(page, 1, sizeof page - 1, file)] = '\0';
    cr_assert(feof(file), "%s is longer than this test reads", PAGE);
    fclose(file);
}

TestSuite(manual, .init = read_page);

Test(manual, tells_every_setting_as_the_table_does)
{
    struct sluice_setting setting;

    for (size_t i = 0; sluice_setting_describe(i, NULL, &setting) == 0; i++) {
        char entry[1024];

        snprintf(entry, sizeof entry, ".TP\n.B %s\n%s.\n.br\nAllowed: %s.\n.br\nDefault: %s.\n", setting.variable,
                 setting.meaning, setting.allowed, setting.value);
        cr_expect(strstr(page, entry), "sluice.7 lacks this entry:\n%s", entry);
    }
}

Test(manual, tells_no_setting_that_the_table_lacks)
{
    struct sluice_setting setting;
    size_t settings = 0;
    size_t entries = 0;

    while (sluice_setting_describe(settings, NULL, &setting) == 0)
        settings++;
    for (const char *at = strstr(page, ".TP\n.B SLUICE_"); at != NULL; at = strstr(at + 1, ".TP\n.B SLUICE_"))
        entries++;
    cr_assert_eq(entries, settings);
}
