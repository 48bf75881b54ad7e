% Included before a LilyPond source (-dinclude-settings) so that the PDF itself
% says what its signs are: each becomes a link whose URI carries the facts,
% separated by ";".
%   sf://staff/SCORE;SYSTEM;STAFF
%   sf://note/SCORE;STAFF;MOMENT;GRACE;PITCH;LENGTH;TIED;TEMPO;POSITION;MARKS
%   sf://bar/SCORE;STAFF;MOMENT;MEASURE;GLYPH
%   sf://volta/SCORE;START;END;PASSES
%   sf://sign/SCORE;STAFF;MOMENT;KIND;VALUE
% SCORE counts \score blocks (0: one within a text), SYSTEM systems and STAFF the staves of scores, in
% any order (STAFF 0: of no staff); MOMENT, GRACE, LENGTH, START, END and TEMPO
% (whole notes a minute) are rationals; PITCH is in semitones from middle C; TIED
% is 1 on a head that continues a tie; POSITION is where pitch and clef put the
% head, in half staff spaces above the middle line; MARKS names scripts,
% separated by ",".  Names that a source may well use for its own music (X, last)
% are kept out of the code.
#(define sf-score-count 0)

#(define sf-numbers (make-hash-table))

#(define (sf-number grob)
   (if (ly:grob? grob)
       (or (hashq-ref sf-numbers grob)
           (hashq-set! sf-numbers grob (+ 1 (hash-count (lambda (key value) #t) sf-numbers))))
       0))

#(define (sf-unbroken grob)
   (if (ly:grob? grob) (ly:grob-original grob) #f))

#(define (sf-staff grob)
   (sf-number (sf-unbroken (ly:grob-object grob 'staff-symbol #f))))

#(define (sf-link grob stencil uri)
   (if (and (ly:stencil? stencil) (not (ly:stencil-empty? stencil)))
       (let ((x (ly:stencil-extent stencil 0))
             (y (ly:stencil-extent stencil 1)))
         (ly:stencil-add
          (ly:make-stencil (list 'url-link uri x y) x y)
          stencil))
       stencil))

#(define (sf-wrap-stencil! grob uri-of)
   (let ((old (ly:grob-property-data grob 'stencil)))
     (ly:grob-set-property! grob 'stencil
       (lambda (g)
         (let* ((stencil (if (procedure? old) (old g) old))
                (uri (uri-of g)))
           (if uri (sf-link g stencil uri) stencil))))))

#(define (sf-strings markup)
   (cond ((string? markup) (list markup))
         ((pair? markup) (append (sf-strings (car markup)) (sf-strings (cdr markup))))
         (else '())))

#(define (sf-clean text)
   (string-map (lambda (c)
                 (cond ((memv c '(#\. #\, #\-)) c)
                       ((char=? c (integer->char #x2013)) #\-)
                       ((and (char<? c (integer->char 128)) (char-alphabetic? c)) c)
                       ((and (char<? c (integer->char 128)) (char-numeric? c)) c)
                       (else #\_)))
               text))

#(define (sf-text grob)
   (sf-clean (string-join (sf-strings (ly:grob-property grob 'text '())) " ")))

#(define (sf-cause-type grob)
   (let ((event (ly:grob-property grob 'cause)))
     (if (ly:stream-event? event)
         (format #f "~a" (ly:event-property event 'articulation-type ""))
         "")))

#(define (sf-clef context)
   (format #f "~a,~a,~a"
     (ly:context-property context 'clefGlyph "")
     (ly:context-property context 'clefPosition 0)
     (ly:context-property context 'clefTransposition 0)))

#(define (sf-sharps alterations)
   (apply + (map (lambda (a) (if (number? (cdr a)) (* 2 (cdr a)) 0)) alterations)))

#(define (sf-key grob context)
   (if (eq? (grob::name grob) 'KeyCancellation)
       (if (null? (ly:context-property context 'keyAlterations '())) 0 #f)
       (sf-sharps (ly:grob-property grob 'alteration-alist '()))))

#(define (sf-time grob context)
   (let ((fraction (ly:context-property context 'timeSignatureFraction)))
     (if (pair? fraction)
         (format #f "~a/~a" (car fraction) (cdr fraction))
         #f)))

#(define (sf-truth-engraver context)
   (let ((score 0) (heads '()) (scripts '()) (repeat-ties '()) (voltas '())
         (previous 0))
     (define (now) (ly:context-current-moment context))
     (define (sign! grob source kind value-of)
       (let ((moment (ly:moment-main (now)))
             (value (value-of grob (ly:translator-context source))))
         (if value
             (sf-wrap-stencil! grob
               (lambda (g)
                 (format #f "sf://sign/~a;~a;~a;~a;~a"
                   score (sf-staff g) moment kind value))))))
     (define (mark! grob source)
       (let ((moment (ly:moment-main (now))))
         (sf-wrap-stencil! grob
           (lambda (g)
             (let ((text (sf-text g)))
               (and (not (string-null? text))
                    (format #f "sf://sign/~a;0;~a;mark;~a" score moment text)))))))
     (define (script! source name)
       (set! scripts (cons (cons (ly:translator-context source) name) scripts)))
     (make-engraver
      ((initialize engraver)
       (if (ly:output-def-lookup (ly:context-output-def context) 'sf-of-book #f)
           (begin
             (set! sf-score-count (+ sf-score-count 1))
             (set! score sf-score-count))))
      (acknowledgers
       ((note-head-interface engraver grob source)
        (let* ((event (ly:grob-property grob 'cause))
               (here (ly:translator-context source))
               (moment (now))
               (tempo (ly:context-property here 'tempoWholesPerMinute))
               (middle-c (ly:context-property here 'middleCPosition 0)))
          (if (and (ly:stream-event? event)
                   (ly:pitch? (ly:event-property event 'pitch)))
              (let* ((pitch (ly:event-property event 'pitch))
                     (length (ly:event-property event 'length)))
                (set! heads (cons (cons here grob) heads))
                (sf-wrap-stencil! grob
                  (lambda (g)
                    (format #f "sf://note/~a;~a;~a;~a;~a;~a;~a;~a;~a;~a"
                      score (sf-staff g)
                      (ly:moment-main moment) (ly:moment-grace moment)
                      (ly:pitch-semitones pitch)
                      (if (ly:moment? length) (ly:moment-main length) 0)
                      (if (ly:grob-property g 'sf-tied #f) 1 0)
                      (if (ly:moment? tempo) (ly:moment-main tempo) 0)
                      (+ (ly:pitch-steps pitch) (if (number? middle-c) middle-c 0))
                      (string-join (ly:grob-property g 'sf-marks '()) ","))))))))
       ((script-interface engraver grob source)
        (let ((name (sf-clean (sf-cause-type grob))))
          (cond ((member name '("segno" "varsegno"))
                 (sign! grob source "mark" (lambda arguments "scripts.segno")))
                ((member name '("coda" "varcoda"))
                 (sign! grob source "mark" (lambda arguments "scripts.coda")))
                (else (script! source name)))))
       ((arpeggio-interface engraver grob source) (script! source "arpeggio"))
       ((stem-tremolo-interface engraver grob source) (script! source "tremolo"))
       ((trill-spanner-interface engraver grob source) (script! source "trill"))
       ((semi-tie-interface engraver grob source)
        (if (eq? (grob::name grob) 'RepeatTie)
            (set! repeat-ties (cons grob repeat-ties))))
       ((bar-line-interface engraver grob source)
        (let* ((here (ly:translator-context source))
               (moment (now))
               (measure (ly:context-property here 'currentBarNumber)))
          (sf-wrap-stencil! grob
            (lambda (g)
              (format #f "sf://bar/~a;~a;~a;~a;~a"
                score (sf-staff g) (ly:moment-main moment)
                (if (number? measure) measure 0)
                (ly:grob-property g 'glyph-name ""))))))
       ((staff-symbol-interface engraver grob source)
        (sf-wrap-stencil! grob
          (lambda (g)
            (format #f "sf://staff/~a;~a;~a"
              score (sf-number (ly:grob-system g)) (sf-number (sf-unbroken g))))))
       ((volta-bracket-interface engraver grob source)
        (let ((span (cons (ly:moment-main (now)) #f)))
          (set! voltas (cons (cons grob span) voltas))
          (sf-wrap-stencil! grob
            (lambda (g)
              (format #f "sf://volta/~a;~a;~a;~a"
                score (car span) (or (cdr span) (car span)) (sf-text g))))))
       ((clef-interface engraver grob source)
        (if (eq? (grob::name grob) 'Clef)
            (sign! grob source "clef" (lambda (g here) (sf-clef here)))))
       ((key-signature-interface engraver grob source) (sign! grob source "key" sf-key))
       ((time-signature-interface engraver grob source) (sign! grob source "time" sf-time))
       ((mark-interface engraver grob source) (mark! grob source))
       ((text-mark-interface engraver grob source) (mark! grob source))
       ((text-script-interface engraver grob source)
        (if (eq? (grob::name grob) 'TextScript) (mark! grob source)))
       ((jump-script-interface engraver grob source) (mark! grob source)))
      (end-acknowledgers
       ((volta-bracket-interface engraver grob source)
        (let ((span (assq-ref voltas grob)))
          (if span (set-cdr! span previous))))
       ((tie-interface engraver grob source)
        (let ((right (ly:spanner-bound grob 1)))
          (if (ly:grob? right)
              (ly:grob-set-property! right 'sf-tied #t)))))
      ((stop-translation-timestep engraver)
       (for-each
        (lambda (script)
          (for-each
           (lambda (head)
             (if (eq? (car head) (car script))
                 (ly:grob-set-property! (cdr head) 'sf-marks
                   (cons (cdr script) (ly:grob-property (cdr head) 'sf-marks '())))))
           heads))
        scripts)
       (for-each
        (lambda (tie)
          (let ((head (ly:grob-object tie 'note-head #f)))
            (if (ly:grob? head) (ly:grob-set-property! head 'sf-tied #t))))
        repeat-ties)
       (set! previous (ly:moment-main (now)))
       (set! heads '())
       (set! scripts '())
       (set! repeat-ties '()))
      ((finalize engraver)
       (for-each
        (lambda (volta)
          (if (not (cddr volta))
              (set-cdr! (cdr volta)
                (ly:moment-main (now)))))
        voltas)))))

#(set-object-property! 'sf-tied 'backend-type? boolean?)
#(set-object-property! 'sf-tied 'backend-doc "This head continues a tie.")
#(set-object-property! 'sf-marks 'backend-type? list?)
#(set-object-property! 'sf-marks 'backend-doc "Names of the scripts that belong to this head.")

\layout { \context { \Score \consists #sf-truth-engraver } }

% Scores without a layout are left out, and so is the MIDI of the others.
#(define (sf-layouts score)
   (filter (lambda (def) (not (eq? 'midi (module-ref (ly:output-def-scope def) 'output-def-kind #f))))
           (ly:score-output-defs score)))

#(define (sf-printed score)
   (let ((all (ly:score-output-defs score)) (layouts (sf-layouts score)))
     (if (= (length all) (length layouts))
         score
         (let ((printed (ly:make-score (ly:score-music score))))
           (for-each (lambda (def) (ly:score-add-output-def! printed def)) layouts)
           (if (module? (ly:score-header score))
               (ly:score-set-header! printed (ly:score-header score)))
           printed))))

#(define (sf-for-print handler)
   (lambda arguments
     (let ((score (car (reverse arguments))))
       (if (or (null? (ly:score-output-defs score)) (pair? (sf-layouts score)))
           (apply handler (reverse (cons (sf-printed score) (cdr (reverse arguments)))))))))

#(define toplevel-score-handler (sf-for-print toplevel-score-handler))
#(define book-score-handler (sf-for-print book-score-handler))
#(define bookpart-score-handler (sf-for-print bookpart-score-handler))

% The whole book is moved by `sf-semitones`, spelt with the fewest accidentals in
% the first key that it has.
#(define sf-semitones 0)

#(define (sf-first-key music)
   (let ((key #f))
     (music-filter
      (lambda (m)
        (if (and (not key) (eq? (ly:music-property m 'name) 'KeyChangeEvent))
            (set! key (sf-sharps (ly:music-property m 'pitch-alist '()))))
        #t)
      (ly:music-deep-copy music))
     key))

#(define (sf-pitch semitones fifths)
   (let* ((step (modulo (* 4 fifths) 7))
          (natural (list-ref '(0 2 4 5 7 9 11) step))
          (octave (round (/ (- semitones natural) 12))))
     (ly:make-pitch octave step (/ (- semitones natural (* 12 octave)) 2))))

#(define (sf-interval semitones key)
   (let ((fifths (filter (lambda (f) (= (modulo (* 7 f) 12) (modulo semitones 12)))
                         (iota 25 -12))))
     (sf-pitch semitones
       (car (sort fifths (lambda (a b) (< (abs (+ key a)) (abs (+ key b)))))))))

#(define (sf-scores book)
   (append (filter ly:score? (reverse (ly:book-scores book)))
           (append-map sf-scores (reverse (ly:book-book-parts book)))))

#(define (sf-transpose! book)
   (let* ((scores (sf-scores book))
          (keys (filter number? (map (lambda (s) (sf-first-key (ly:score-music s))) scores)))
          (interval (sf-interval sf-semitones (if (pair? keys) (car keys) 0))))
     (for-each (lambda (s) (ly:music-transpose (ly:score-music s) interval)) scores)))

% Scores of a book are told from examples within the text (\markup \score).
#(define (sf-mark-score! score)
   (if (null? (ly:score-output-defs score))
       (ly:score-add-output-def! score (ly:output-def-clone $defaultlayout)))
   (for-each (lambda (def) (ly:output-def-set-variable! def 'sf-of-book #t))
             (ly:score-output-defs score)))

#(define toplevel-book-handler
   (let ((handler toplevel-book-handler))
     (lambda (book)
       (if (not (= 0 sf-semitones)) (sf-transpose! book))
       (for-each sf-mark-score! (sf-scores book))
       (handler book))))
