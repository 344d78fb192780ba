# SPDX-License-Identifier: Apache-2.0
"""Texts that compare_tokenizers.py cuts up: article 1 of the Universal Declaration of Human Rights
in the 24 official languages of the European Union, some more scripts, code and emoji."""

LANGUAGES = {
    "bg": "Всички хора се раждат свободни и равни по достойнство и права. Те са надарени с разум и "
          "съвест и следва да се отнасят помежду си в дух на братство.",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a "
          "svědomím a mají spolu jednat v duchu bratrství.",
    "da": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft "
          "og samvittighed, og de bør handle mod hverandre i en broderskabets ånd.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und "
          "Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen. GRÖSSE, MÜNCHEN.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι "
          "προικισμένοι με λογική και συνείδηση.",
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with "
          "reason and conscience; they don't, can't and won't act otherwise. It's what we've said.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están "
          "de razón y conciencia, deben comportarse fraternalmente. ¿ESPAÑA? ¡Sí!",
    "et": "Kõik inimesed sünnivad vabadena ja võrdsetena oma väärikuselt ja õigustelt. Neile on antud "
          "mõistus ja südametunnistus.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on "
          "annettu järki ja omatunto.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de "
          "raison et de conscience… DÉCLARATION FRANÇAISE: «l'esprit de fraternité», cœur, Noël.",
    "ga": "Saolaítear gach duine den chine daonna saor agus comhionann i ndínit agus i gcearta. Tá "
          "bauaidh an réasúin agus an choinsiasa acu.",
    "hr": "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima. Ona su obdarena "
          "razumom i sviješću.",
    "hu": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, ésszel "
          "és lelkiismerettel bírván, egymással szemben testvéri szellemben viseltessenek. Őrült tűz.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di "
          "ragione e di coscienza; perché è così.",
    "lt": "Visi žmonės gimsta laisvi ir lygūs savo orumu ir teisėmis. Jiems suteiktas protas ir sąžinė.",
    "lv": "Visi cilvēki piedzimst brīvi un vienlīdzīgi savā pašcieņā un tiesībās. Viņi ir apveltīti ar "
          "saprātu un sirdsapziņu.",
    "mt": "Il-bnedmin kollha jitwieldu ħielsa u ugwali fid-dinjità u d-drittijiet. Huma mogħnija "
          "bir-raġuni u bil-kuxjenza.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met "
          "verstand en geweten; 's morgens, 's avonds, foto's.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni "
          "obdarzeni rozumem i sumieniem. ŻYCIE, ŁÓDŹ, ŚWIĘTO.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão "
          "e de consciência, devem agir uns para com os outros em espírito de fraternidade.",
    "ro": "Toate ființele umane se nasc libere și egale în demnitate și în drepturi. Ele sunt înzestrate "
          "cu rațiune și conștiință.",
    "sk": "Všetci ľudia sa rodia slobodní a sebe rovní, čo sa týka ich dôstojnosti a práv. Sú obdarení "
          "rozumom a svedomím.",
    "sl": "Vsi ljudje se rodijo svobodni in imajo enako dostojanstvo in enake pravice. Obdarjeni so z "
          "razumom in vestjo.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft "
          "och samvete och bör handla gentemot varandra i en anda av broderskap.",
    "ar": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميرًا ١٢٣.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। १२३",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。カタカナ１２３",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 한국어",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом.",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Ґанок, їжак, п'ять.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "decomposed": "E\u0301cole fran\u0327aise, A\u030angstro\u0308m, n\u0303, \u1112\u1161\u11ab, "
                  "q\u0323\u0307, q\u0307\u0323, \u212b, \ufb01n",
}

CODE = '''#include <vector>
int main(int argc, char** argv) {
    std::vector<int> v{1, 2, 3};
    for (auto& x : v) x += 0x1F << 3;  // it's a shift
    return v[0] == 32 ? 0 : -1;
}

def fibonacci(n: int) -> int:
\t"""Returns the n-th number; n >= 0."""
\tif n < 2:
\t\treturn n
\treturn fibonacci(n - 1) + fibonacci(n - 2)


SELECT name, COUNT(*) FROM users WHERE age >= 18 AND email LIKE '%@example.org' GROUP BY 1;
<a href="https://example.org/path/to?q=1&amp;r=2#top">link</a>\r\n\r\n
{"key": [1.5e-10, null, true], "κλειδί": "\\u00e9"}
fn main() { println!("{:?}", (0..10).map(|x| x * x).collect::<Vec<_>>()); }
$ git log --oneline | head -n 5 && echo "$HOME/.config" || exit 1
x86_64-linux-gnu///--\n\n\n    camelCaseÉtatHTTPServer snake_case_name()[](){}
'''

EMOJI = ["😀", "😂", "🤖", "👍🏽", "👩‍👩‍👧‍👦", "🇧🇪", "🇪🇺", "❤️", "✨", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "☕", "1️⃣", "🫠", "🦀"]
